#include "storage/acked_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <system_error>

#include "base/check.h"

namespace patina::storage {
namespace {

constexpr std::string_view kMagic = "PATACK01";
constexpr size_t kPageBytes = 4096;

class File {
 public:
  explicit File(const std::string& path)
      : fd_(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600)) {}
  ~File() {
    if (fd_ >= 0) ::close(fd_);
  }
  File(const File&) = delete;
  File& operator=(const File&) = delete;
  int fd() const { return fd_; }

 private:
  const int fd_;
};

Error CannotUse(const std::string& path) {
  return Unavailable(path + ": " + std::generic_category().message(errno));
}

}  // namespace

struct AckedFile::Page {
  struct Actor {
    std::array<char, 16> actor;
    uint64_t version;
    uint64_t taken;  // 0: the slot is free
  };
  std::array<char, 8> magic;
  uint64_t last_seq;
  uint64_t taken;
  std::array<Actor, kActors> actors;
};

Result<std::unique_ptr<AckedFile>> AckedFile::Open(const std::string& path) {
  static_assert(sizeof(Page) <= kPageBytes);
  const File file(path);
  struct stat info {};
  if (file.fd() < 0 || ::fstat(file.fd(), &info) != 0) return CannotUse(path);
  std::array<char, kPageBytes> start{};
  const bool known =
      info.st_size == static_cast<off_t>(kPageBytes) &&
      ::pread(file.fd(), start.data(), kMagic.size(), 0) == static_cast<ssize_t>(kMagic.size()) &&
      std::string_view(start.data(), kMagic.size()) == kMagic;
  if (!known) {
    // Written, not only made longer: a store to a page that has no place on a full disk is a
    // SIGBUS.
    start.fill(0);
    std::copy(kMagic.begin(), kMagic.end(), start.begin());
    if (::ftruncate(file.fd(), 0) != 0 ||
        ::pwrite(file.fd(), start.data(), start.size(), 0) != static_cast<ssize_t>(start.size())) {
      return CannotUse(path);
    }
  }
  void* const mapped =
      ::mmap(nullptr, kPageBytes, PROT_READ | PROT_WRITE, MAP_SHARED, file.fd(), 0);
  if (mapped == MAP_FAILED) return CannotUse(path);
  return std::unique_ptr<AckedFile>(new AckedFile(static_cast<Page*>(mapped)));
}

AckedFile::~AckedFile() { ::munmap(page_, kPageBytes); }

uint64_t AckedFile::last_seq() const { return page_->last_seq; }

std::vector<crdt::ActorRanges> AckedFile::Missing(const crdt::VersionSet& received) const {
  crdt::VersionSet acked;
  for (const Page::Actor& slot : page_->actors) {
    const auto actor = ActorId::FromBytes({slot.actor.data(), slot.actor.size()});
    if (slot.taken == 0 || !actor || slot.version == 0 || slot.version > crdt::kMaxVersion)
      continue;
    acked.AddRange(*actor, {1, slot.version});
  }
  return received.Lacking(acked);
}

void AckedFile::SetActor(const ActorId& actor, const crdt::VersionSet& received) {
  const std::vector<crdt::ActorRanges> missing = Missing(received);
  const auto rank = [&](const Page::Actor& slot) {
    const bool lacks = std::any_of(missing.begin(), missing.end(), [&](const auto& ranges) {
      return slot.taken != 0 &&
             ranges.actor.AsBytes() == std::string_view(slot.actor.data(), slot.actor.size());
    });
    return std::pair(lacks, slot.taken);
  };
  const auto slot =
      std::min_element(page_->actors.begin(), page_->actors.end(),
                       [&](const auto& a, const auto& b) { return rank(a) < rank(b); });
  own_ = static_cast<size_t>(slot - page_->actors.begin());
  slot->version = 0;
  const std::string_view bytes = actor.AsBytes();
  CHECK(bytes.size() == slot->actor.size());
  std::copy(bytes.begin(), bytes.end(), slot->actor.begin());
  slot->taken = ++page_->taken;
}

void AckedFile::Note(uint64_t last_seq, uint64_t version) {
  page_->last_seq = last_seq;
  if (own_ < kActors) page_->actors[own_].version = version;
}

}  // namespace patina::storage
