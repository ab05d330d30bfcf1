#include "crdt/version_set.h"

#include <algorithm>
#include <roaring/roaring.hh>
#include <utility>

#include "base/check.h"

namespace patina::crdt {
namespace {

constexpr uint64_t kBlockBits = 16;  // of a Roaring container

uint32_t High(uint64_t version) { return static_cast<uint32_t>(version >> 32); }
uint32_t Low(uint64_t version) { return static_cast<uint32_t>(version); }

/// Finds where runs end in a bitmap, at a price per block of 65,536 versions (under a microsecond)
/// and little per run: neither long runs nor many short ones that a peer sent take long. It takes
/// the complement of one block at a time: that of the whole has blocks where the bitmap has none.
/// Not roaring_bitmap_contains_range: in 0.2.66 it aborts if the range's last block is missing.
class RunFinder {
 public:
  explicit RunFinder(const Roaring& part) : part_(part) {}

  /// The last version, in the block of first, of the run that first belongs to. Ascending calls.
  uint32_t EndInBlock(uint32_t first) {
    if (first == UINT32_MAX || !part_.contains(first + 1)) return first;
    const uint64_t block = first & ~uint64_t{0xffff};
    if (block != block_) {
      block_ = block;
      gaps_ = Roaring(roaring_bitmap_from_range(block, block + 0x10000, 1));
      gaps_ -= part_;
      roaring_init_iterator(&gaps_.roaring, &gap_);
    }
    const bool ends = roaring_move_uint32_iterator_equalorlarger(&gap_, first);
    return ends ? gap_.current_value - 1 : static_cast<uint32_t>(block + 0xffff);
  }

 private:
  const Roaring& part_;
  uint64_t block_ = UINT64_MAX;
  Roaring gaps_;
  roaring_uint32_iterator_t gap_;
};

/// The versions above the first gap of one actor. One Roaring bitmap per 2^32 versions, which is
/// what Roaring64Map does; but that class (in Debian's 0.2.66) has neither ranges nor a way to its
/// parts, and without ranges a long run costs time per version.
class SparseVersions {
 public:
  bool Empty() const { return parts_.empty(); }

  bool Contains(uint64_t version) const {
    const auto it = parts_.find(High(version));
    return it != parts_.end() && it->second.contains(Low(version));
  }

  bool Add(uint64_t version) { return parts_[High(version)].addChecked(Low(version)); }

  void AddRange(VersionRange range) {
    if (range.first == range.last) {  // usual when decoding, and much cheaper
      Add(range.first);
      return;
    }
    for (uint64_t part = High(range.first); part <= High(range.last); ++part) {
      const uint64_t low = part == High(range.first) ? Low(range.first) : 0;
      const uint64_t high = part == High(range.last) ? Low(range.last) : UINT32_MAX;
      parts_[static_cast<uint32_t>(part)].addRange(low, high + 1);
    }
  }

  /// Forgets 1..version.
  void RemoveThrough(uint64_t version) {
    while (!parts_.empty() && parts_.begin()->first < High(version)) parts_.erase(parts_.begin());
    if (parts_.empty() || parts_.begin()->first != High(version)) return;
    Roaring& part = parts_.begin()->second;
    roaring_bitmap_remove_range(&part.roaring, 0, uint64_t{Low(version)} + 1);
    if (part.isEmpty()) parts_.erase(parts_.begin());
  }

  uint64_t Maximum() const {
    const auto& [high, part] = *parts_.rbegin();
    return uint64_t{high} << 32 | part.maximum();
  }

  uint64_t Count() const {
    uint64_t count = 0;
    for (const auto& [high, part] : parts_) count += part.cardinality();
    return count;
  }

  /// The last version of the run that a version that is there belongs to.
  uint64_t RunEnd(uint64_t version) const {
    uint64_t end = version - 1;
    auto it = parts_.find(High(version));
    while (it != parts_.end() && it->first == High(end + 1)) {
      RunFinder runs(it->second);
      do {
        if (!it->second.contains(Low(end + 1))) return end;
        end = uint64_t{it->first} << 32 | runs.EndInBlock(Low(end + 1));
      } while (Low(end) != UINT32_MAX);
      ++it;
    }
    return end;
  }

  /// Calls f(range) for each run, ascending.
  template <class F>
  void ForEachRange(F f) const {
    VersionRange open;  // may go on in the next block
    for (const auto& [high, part] : parts_) {
      const uint64_t base = uint64_t{high} << 32;
      RunFinder runs(part);
      roaring_uint32_iterator_t here;
      roaring_init_iterator(&part.roaring, &here);
      while (here.has_value) {
        const uint32_t first = here.current_value;
        const uint32_t last = runs.EndInBlock(first);
        if (open.last != 0 && open.last + 1 == (base | first)) {
          open.last = base | last;
        } else {
          if (open.last != 0) f(open);
          open = {base | first, base | last};
        }
        if (last == UINT32_MAX) break;
        if (last == first) {
          roaring_advance_uint32_iterator(&here);
        } else {
          roaring_move_uint32_iterator_equalorlarger(&here, last + 1);
        }
      }
    }
    if (open.last != 0) f(open);
  }

  bool operator==(const SparseVersions& other) const { return parts_ == other.parts_; }

 private:
  std::map<uint32_t, Roaring> parts_;  // none is empty
};

/// Calls f(range) for what is in theirs and not in ours, ascending; stops when f returns false.
template <class F>
bool ForEachMissing(const std::vector<VersionRange>& theirs, const std::vector<VersionRange>& ours,
                    F f) {
  size_t at = 0;
  for (const VersionRange& range : theirs) {
    uint64_t first = range.first;
    while (first <= range.last) {
      while (at < ours.size() && ours[at].last < first) ++at;
      const bool meets = at < ours.size() && ours[at].first <= range.last;
      const uint64_t last = meets ? ours[at].first - 1 : range.last;
      if (!meets || ours[at].first > first) {
        if (!f(VersionRange{first, last})) return false;
      }
      if (!meets) break;
      first = ours[at].last + 1;
    }
  }
  return true;
}

}  // namespace

struct VersionSet::PerActor {
  ActorId actor;
  uint64_t contiguous = 0;                 // all of 1..contiguous
  std::unique_ptr<SparseVersions> sparse;  // what lies above contiguous + 1; null if nothing does
  Digest128 digest;                        // unless stale
  bool stale = false;

  explicit PerActor(const ActorId& id) : actor(id) {}
  PerActor(const PerActor& other)
      : actor(other.actor),
        contiguous(other.contiguous),
        sparse(other.sparse ? std::make_unique<SparseVersions>(*other.sparse) : nullptr),
        digest(other.digest),
        stale(other.stale) {}

  bool Contains(uint64_t version) const {
    return version <= contiguous ? version > 0 : sparse && sparse->Contains(version);
  }

  bool Add(uint64_t version) {
    if (version <= contiguous) return false;
    if (version > contiguous + 1) {
      if (!sparse) sparse = std::make_unique<SparseVersions>();
      return sparse->Add(version);
    }
    contiguous = version;
    if (sparse && sparse->Contains(version + 1)) Absorb();
    return true;
  }

  void AddRange(VersionRange range) {
    if (range.first > contiguous + 1) {
      if (!sparse) sparse = std::make_unique<SparseVersions>();
      sparse->AddRange(range);
    } else if (range.last > contiguous) {
      contiguous = range.last;
      if (sparse) Absorb();
    }
  }

  /// Versions that the contiguous part has reached move into it.
  void Absorb() {
    if (sparse->Contains(contiguous + 1)) contiguous = sparse->RunEnd(contiguous + 1);
    sparse->RemoveThrough(contiguous);
    if (sparse->Empty()) sparse.reset();
  }

  uint64_t Head() const { return sparse ? sparse->Maximum() : contiguous; }
  uint64_t Count() const { return contiguous + (sparse ? sparse->Count() : 0); }

  std::vector<VersionRange> Ranges() const {
    std::vector<VersionRange> ranges;
    if (contiguous > 0) ranges.push_back({1, contiguous});
    if (sparse) sparse->ForEachRange([&](VersionRange range) { ranges.push_back(range); });
    return ranges;
  }

  bool SameVersions(const PerActor& other) const {
    if (contiguous != other.contiguous || !sparse != !other.sparse) return false;
    return !sparse || *sparse == *other.sparse;
  }

  Digest128 MakeDigest() const {
    std::string bytes;
    ByteWriter out(&bytes);
    out.Raw(actor.AsBytes());
    for (const VersionRange& range : Ranges()) {
      out.U64(range.first);
      out.U64(range.last);
    }
    return Hash128(bytes);
  }
};

VersionSet::VersionSet() = default;
VersionSet::~VersionSet() = default;

VersionSet::VersionSet(const VersionSet& other) : total_(other.total_) {
  for (const auto& [actor, entry] : other.actors_) {
    auto copy = std::make_unique<PerActor>(*entry);
    if (copy->stale) stale_.push_back(copy.get());
    actors_.emplace_hint(actors_.end(), actor, std::move(copy));
  }
}

VersionSet& VersionSet::operator=(const VersionSet& other) {
  if (this != &other) *this = VersionSet(other);
  return *this;
}

VersionSet::VersionSet(VersionSet&& other) noexcept { *this = std::move(other); }

VersionSet& VersionSet::operator=(VersionSet&& other) noexcept {
  actors_ = std::exchange(other.actors_, {});
  total_ = std::exchange(other.total_, {});
  stale_ = std::exchange(other.stale_, {});
  return *this;
}

VersionSet::PerActor& VersionSet::Obtain(const ActorId& actor) {
  std::unique_ptr<PerActor>& entry = actors_[actor];
  if (!entry) entry = std::make_unique<PerActor>(actor);
  return *entry;
}

const VersionSet::PerActor* VersionSet::Find(const ActorId& actor) const {
  const auto it = actors_.find(actor);
  return it == actors_.end() ? nullptr : it->second.get();
}

void VersionSet::Touch(PerActor& entry) {
  if (entry.stale) return;
  total_ -= entry.digest;
  entry.stale = true;
  stale_.push_back(&entry);
}

bool VersionSet::Contains(const ChangeId& id) const {
  const PerActor* entry = Find(id.actor);
  return entry != nullptr && entry->Contains(id.version);
}

bool VersionSet::Add(const ChangeId& id) {
  if (id.version == 0 || id.version > kMaxVersion) return false;
  PerActor& entry = Obtain(id.actor);
  if (!entry.Add(id.version)) return false;
  Touch(entry);
  return true;
}

void VersionSet::AddRange(const ActorId& actor, VersionRange range) {
  range.first = std::max<uint64_t>(range.first, 1);
  range.last = std::min(range.last, kMaxVersion);
  if (range.first > range.last) return;
  PerActor& entry = Obtain(actor);
  entry.AddRange(range);
  Touch(entry);
}

void VersionSet::Union(const VersionSet& other) {
  if (this == &other) return;
  for (const auto& [actor, theirs] : other.actors_) {
    PerActor& entry = Obtain(actor);
    if (entry.SameVersions(*theirs)) continue;
    for (const VersionRange& range : theirs->Ranges()) entry.AddRange(range);
    Touch(entry);
  }
}

VersionSet VersionSet::Without(const VersionSet& other) const {
  VersionSet rest;
  for (const ActorRanges& lacking : other.Lacking(*this)) {
    for (const VersionRange& range : lacking.ranges) rest.AddRange(lacking.actor, range);
  }
  return rest;
}

uint64_t VersionSet::Head(const ActorId& actor) const {
  const PerActor* entry = Find(actor);
  return entry == nullptr ? 0 : entry->Head();
}

uint64_t VersionSet::Contiguous(const ActorId& actor) const {
  const PerActor* entry = Find(actor);
  return entry == nullptr ? 0 : entry->contiguous;
}

uint64_t VersionSet::GapCount(const ActorId& actor) const {
  const PerActor* entry = Find(actor);
  return entry == nullptr ? 0 : entry->Head() - entry->Count();
}

uint64_t VersionSet::Size() const {
  uint64_t size = 0;
  for (const auto& [actor, entry] : actors_) size += entry->Count();
  return size;
}

std::vector<ActorId> VersionSet::Actors() const {
  std::vector<ActorId> actors;
  actors.reserve(actors_.size());
  for (const auto& [actor, entry] : actors_) actors.push_back(actor);
  return actors;
}

std::vector<VersionRange> VersionSet::Ranges(const ActorId& actor) const {
  const PerActor* entry = Find(actor);
  return entry == nullptr ? std::vector<VersionRange>() : entry->Ranges();
}

std::vector<VersionRange> VersionSet::Gaps(const ActorId& actor) const {
  std::vector<VersionRange> gaps;
  uint64_t next = 1;
  for (const VersionRange& range : Ranges(actor)) {
    if (range.first > next) gaps.push_back({next, range.first - 1});
    next = range.last + 1;
  }
  return gaps;
}

std::vector<ActorRanges> VersionSet::AllRanges() const {
  std::vector<ActorRanges> all;
  all.reserve(actors_.size());
  for (const auto& [actor, entry] : actors_) all.push_back({actor, entry->Ranges()});
  return all;
}

std::vector<ActorRanges> VersionSet::Lacking(const VersionSet& other, uint64_t max_versions) const {
  std::vector<ActorRanges> lacking;
  uint64_t left = max_versions;
  for (const auto& [actor, theirs] : other.actors_) {
    if (left == 0) break;
    const PerActor* ours = Find(actor);
    if (ours != nullptr && theirs->Head() <= ours->contiguous) continue;
    ActorRanges found{actor, {}};
    const auto our_ranges = ours == nullptr ? std::vector<VersionRange>() : ours->Ranges();
    ForEachMissing(theirs->Ranges(), our_ranges, [&](VersionRange range) {
      if (left == 0) return false;
      if (range.last - range.first >= left) range.last = range.first + (left - 1);
      left -= range.last - range.first + 1;
      found.ranges.push_back(range);
      return left > 0;
    });
    if (!found.ranges.empty()) lacking.push_back(std::move(found));
  }
  return lacking;
}

bool VersionSet::IsSubsetOf(const VersionSet& other) const {
  return other.Lacking(*this, 1).empty();
}

bool VersionSet::operator==(const VersionSet& other) const {
  return std::equal(actors_.begin(), actors_.end(), other.actors_.begin(), other.actors_.end(),
                    [](const auto& a, const auto& b) {
                      return a.first == b.first && a.second->SameVersions(*b.second);
                    });
}

Digest128 VersionSet::digest() const {
  for (PerActor* entry : stale_) {
    entry->digest = entry->MakeDigest();
    entry->stale = false;
    total_ += entry->digest;
  }
  stale_.clear();
  return total_;
}

// Format, in varints: actors | per actor, ascending: 16 bytes | ranges | per range: how far its
// first version is from the earliest it could be (1, or two after the range before) | its length
// less one.
void VersionSet::Encode(ByteWriter& out) const {
  out.Varint(actors_.size());
  for (const auto& [actor, entry] : actors_) {
    const std::vector<VersionRange> ranges = entry->Ranges();
    out.Raw(actor.AsBytes());
    out.Varint(ranges.size());
    uint64_t earliest = 1;
    for (const VersionRange& range : ranges) {
      out.Varint(range.first - earliest);
      out.Varint(range.last - range.first);
      earliest = range.last + 2;
    }
  }
}

bool VersionSet::Decode(ByteReader& in, const VersionSetLimits& limits, VersionSet* set) {
  *set = VersionSet();
  const uint64_t actors = in.Varint();
  if (!in.ok() || actors > limits.actors_max || actors > in.remaining() / 19) return false;
  uint64_t ranges_left = limits.ranges_max, blocks_left = limits.blocks_max;
  for (uint64_t i = 0; i < actors; ++i) {
    const std::optional<ActorId> actor = ActorId::FromBytes(in.Raw(16));
    const uint64_t ranges = in.Varint();
    if (!in.ok() || !actor || ranges == 0 || ranges > ranges_left) return false;
    if (ranges > in.remaining() / 2) return false;
    if (!set->actors_.empty() && *actor <= set->actors_.rbegin()->first) return false;
    ranges_left -= ranges;
    PerActor& entry = set->Obtain(*actor);
    set->Touch(entry);
    uint64_t earliest = 1, block_next = 0;
    for (uint64_t j = 0; j < ranges; ++j) {
      const uint64_t skip = in.Varint(), more = in.Varint();
      if (!in.ok() || skip > kMaxVersion || more > kMaxVersion) return false;
      const VersionRange range{earliest + skip, earliest + skip + more};
      if (range.last > kMaxVersion) return false;
      if (range.first > 1) {
        const uint64_t first_block = std::max(range.first >> kBlockBits, block_next);
        block_next = (range.last >> kBlockBits) + 1;
        const uint64_t blocks = block_next - std::min(first_block, block_next);
        if (blocks > blocks_left) return false;
        blocks_left -= blocks;
      }
      entry.AddRange(range);
      earliest = range.last + 2;
    }
  }
  return true;
}

std::string VersionSet::ToString() const {
  uint64_t versions = 0, gaps = 0;
  for (const auto& [actor, entry] : actors_) {
    versions += entry->Count();
    gaps += Gaps(actor).size();
  }
  return std::to_string(actors_.size()) + " actors, " + std::to_string(versions) + " versions, " +
         std::to_string(gaps) + " gaps";
}

}  // namespace patina::crdt
