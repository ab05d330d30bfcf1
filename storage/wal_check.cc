#include "storage/wal_check.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <optional>
#include <string_view>
#include <system_error>
#include <vector>

#include "base/log.h"
#include "storage/db.h"

namespace patina::storage {
namespace {

constexpr size_t kWalHeaderBytes = 32, kFrameHeaderBytes = 24;
constexpr uint32_t kWalMagic = 0x377f0682;  // its lowest bit: checksums are of big-endian words
constexpr size_t kPageBytesMin = 512, kPageBytesMax = 65'536;

/// SQLite's WalIndexHdr and WalCkptInfo, in this machine's byte order.
struct IndexHeader {
  uint32_t version, unused, change;
  uint8_t initialised, big_endian;
  uint16_t page_bytes;
  uint32_t frames, pages;
  std::array<uint32_t, 2> frame_checksum, salt, checksum;
};
static_assert(sizeof(IndexHeader) == 48);
struct Index {
  std::array<IndexHeader, 2> headers;
  uint32_t copied;
  std::array<uint32_t, 5> read_marks;
  std::array<uint8_t, 8> locks;
  uint32_t copy_attempted;
};
static_assert(sizeof(Index) == 132);

uint32_t BigEndian(const char* bytes) {
  uint32_t number = 0;
  for (int i = 0; i < 4; ++i) number = number << 8 | static_cast<uint8_t>(bytes[i]);
  return number;
}

uint32_t Native(const char* bytes) {
  uint32_t number = 0;
  std::memcpy(&number, bytes, sizeof number);
  return number;
}

struct Checksum {
  uint32_t first = 0, second = 0;
  bool big_endian = false;

  void Add(std::string_view bytes) {
    for (size_t i = 0; i + 8 <= bytes.size(); i += 8) {
      const char* const at = bytes.data() + i;
      first += (big_endian ? BigEndian(at) : Native(at)) + second;
      second += (big_endian ? BigEndian(at + 4) : Native(at + 4)) + first;
    }
  }
  bool Is(const char* stored) const {
    return BigEndian(stored) == first && BigEndian(stored + 4) == second;
  }
};

bool ReadIndex(const std::string& path, Index* index) {
  std::ifstream in(path, std::ios::binary);
  std::array<char, sizeof(Index)> bytes{};
  if (!in.read(bytes.data(), bytes.size())) return false;
  std::memcpy(index, bytes.data(), bytes.size());
  const bool settled =
      std::memcmp(&index->headers[0], &index->headers[1], sizeof(IndexHeader)) == 0;
  return settled && index->headers[0].initialised == 1;
}

/// The last frame of the last commit up to which all is sound. None: it is not the index's log.
std::optional<uint64_t> SoundFrames(const std::string& path, const IndexHeader& index) {
  std::ifstream in(path, std::ios::binary);
  std::array<char, kWalHeaderBytes> header{};
  if (!in.read(header.data(), header.size())) return uint64_t{0};
  const uint32_t magic = BigEndian(header.data());
  const size_t page_bytes = BigEndian(header.data() + 8);
  Checksum checksum{0, 0, (magic & 1) != 0};
  checksum.Add({header.data(), 24});
  if ((magic & ~1u) != kWalMagic || page_bytes < kPageBytesMin || page_bytes > kPageBytesMax ||
      !checksum.Is(header.data() + 24)) {
    return uint64_t{0};
  }
  const std::string_view salts(header.data() + 16, 8);
  if (std::memcmp(salts.data(), index.salt.data(), salts.size()) != 0) return std::nullopt;
  std::vector<char> frame(kFrameHeaderBytes + page_bytes);
  uint64_t sound = 0;
  for (uint64_t number = 1; in.read(frame.data(), static_cast<std::streamsize>(frame.size()));
       ++number) {
    if (std::string_view(frame.data() + 8, 8) != salts) break;
    checksum.Add({frame.data(), 8});
    checksum.Add({frame.data() + kFrameHeaderBytes, page_bytes});
    if (!checksum.Is(frame.data() + 16)) break;
    if (BigEndian(frame.data() + 4) != 0) sound = number;
  }
  return sound;
}

}  // namespace

WalFinding InspectWal(const std::string& database_path) {
  Index index{};
  if (!ReadIndex(database_path + "-shm", &index)) return {};
  WalFinding finding;
  finding.frames_known = index.headers[0].frames;
  if (finding.frames_known == 0) return {};
  const auto sound = SoundFrames(database_path + "-wal", index.headers[0]);
  if (!sound) return {};
  finding.frames_sound = *sound;
  finding.frames_copied = index.copied;
  finding.frames_begun = std::max(index.copied, index.copy_attempted);
  return finding;
}

Result<bool> SetDamagedWalAside(const std::string& database_path) {
  const WalFinding finding = InspectWal(database_path);
  if (!finding.damaged()) return false;
  LogError("storage", database_path, "-wal is damaged: of ", finding.frames_known,
           " pages committed to it, ", finding.frames_sound, " are left; ", finding.frames_copied,
           " had been copied to the database, which was begun for ", finding.frames_begun);
  if (finding.frames_copied <= finding.frames_sound) return true;
  const std::string log = database_path + "-wal", aside = log + ".damaged";
  if (std::rename(log.c_str(), aside.c_str()) != 0 && errno != ENOENT) {
    return Unavailable(log + " cannot be renamed: " + std::generic_category().message(errno));
  }
  LogWarning("storage", "the database is newer than what is left of its log, which is kept as ",
             aside);
  return true;
}

Status CheckSound(Db& db, const std::string& path) {
  ASSIGN_OR_RETURN(const auto problems, db.Problems("integrity_check(1)"));
  if (problems.empty()) return OkStatus();
  return DataLoss(path + " is damaged: " + problems[0] +
                  "; `patina reseed` rebuilds it from a peer");
}

}  // namespace patina::storage
