#include "crdt/actor_table.h"

#include "base/check.h"

namespace patina::crdt {

ActorTable::ActorTable() : actors_(1) { indexes_.emplace(ActorId{}, 0); }

ActorIndex ActorTable::Intern(const ActorId& actor) {
  const auto [it, inserted] = indexes_.try_emplace(actor, size());
  if (inserted) {
    CHECK(actors_.size() < UINT32_MAX);
    actors_.push_back(actor);
  }
  return it->second;
}

std::optional<ActorIndex> ActorTable::Find(const ActorId& actor) const {
  const auto it = indexes_.find(actor);
  if (it == indexes_.end()) return std::nullopt;
  return it->second;
}

const ActorId& ActorTable::Get(ActorIndex index) const {
  CHECK(index < actors_.size());
  return actors_[index];
}

void ActorTable::Restore(ActorIndex index, const ActorId& actor) {
  CHECK_MSG(index == size(), "actors are restored in the order of their numbers");
  CHECK_MSG(Intern(actor) == index, "an actor is restored once");
}

void ActorTable::Truncate(ActorIndex size) {
  CHECK(size >= 1);
  while (actors_.size() > size) {
    indexes_.erase(actors_.back());
    actors_.pop_back();
  }
}

}  // namespace patina::crdt
