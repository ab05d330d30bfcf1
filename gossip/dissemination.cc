#include "gossip/dissemination.h"

#include <algorithm>
#include <utility>

namespace patina::gossip {

size_t EstimateBytes(const MemberUpdate& update) {
  // Two varints of 10, boot and schema 9 each, actor 18, address 21, state 2, tags and lengths.
  constexpr size_t kFixed = 96;
  return kFixed + update.info.name.size() + update.info.region.size() +
         update.info.api_address.size() + update.accuser.size();
}

void Dissemination::Add(MemberUpdate update) {
  Remove(update.info.name);
  Entry entry;
  entry.age = next_age_--;
  std::string name = update.info.name;
  entry.update = std::move(update);
  order_.insert(KeyOf(entry));
  by_name_.emplace(std::move(name), std::move(entry));
}

void Dissemination::Remove(const std::string& name) {
  const auto found = by_name_.find(name);
  if (found == by_name_.end()) return;
  order_.erase(KeyOf(found->second));
  by_name_.erase(found);
}

void Dissemination::Fill(size_t bytes_left, int limit, std::vector<MemberUpdate>* updates) {
  constexpr int kMissesMax = 4;  // too large for the rest: look at a few more, not at all
  std::vector<std::string> sent;
  int misses = 0;
  for (const Key& key : order_) {
    if (bytes_left < 100 || misses >= kMissesMax) break;
    const std::string& name = std::get<2>(key);
    const bool there = std::any_of(updates->begin(), updates->end(),
                                   [&](const MemberUpdate& u) { return u.info.name == name; });
    const MemberUpdate& update = by_name_.at(name).update;
    const size_t size = EstimateBytes(update);
    if (!there && size > bytes_left) {
      ++misses;
      continue;
    }
    if (!there) {
      bytes_left -= size;
      updates->push_back(update);
    }
    sent.push_back(name);
  }
  for (const std::string& name : sent) {
    Entry& entry = by_name_.at(name);
    order_.erase(KeyOf(entry));
    if (++entry.sent >= limit) {
      by_name_.erase(name);
    } else {
      order_.insert(KeyOf(entry));
    }
  }
}

int RetransmitLimit(int factor, size_t members) {
  int digits = 1;  // ceil(log10(members + 1)) is the number of decimal digits of members
  for (size_t rest = members; rest >= 10; rest /= 10) ++digits;
  return factor * digits;
}

}  // namespace patina::gossip
