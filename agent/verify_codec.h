#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/status.h"
#include "crdt/version_set.h"
#include "storage/store.h"

// What `patina verify` asks members and what they answer, as values and as bytes (VerifyQuestion
// and VerifyAnswer of patina/peer/v1/peer.proto). Any thread.

namespace patina::agent {

inline constexpr size_t kVerifyBucketsMax = 32;  // whose rows are asked for at once

using TableBucket = std::pair<std::string, uint32_t>;

struct VerifyQuestion {
  enum class Kind { kTables, kBuckets, kRows };
  Kind kind = Kind::kTables;
  std::vector<std::string> tables;   // kBuckets
  std::vector<TableBucket> buckets;  // kRows
};

struct VerifyAnswer {
  std::string error;  // empty: all is well
  std::string received_digest;
  uint64_t received = 0;
  std::vector<storage::TableDigest> tables;              // kTables
  std::map<std::string, std::vector<uint64_t>> buckets;  // kBuckets; 4,096 each
  crdt::VersionSet applied;                              // kRows: before the rows were read
  std::map<TableBucket, std::vector<storage::RowDigest>> rows;
};

std::string EncodeVerifyQuestion(const VerifyQuestion& question);
/// INVALID_ARGUMENT: malformed or over a limit.
Result<VerifyQuestion> DecodeVerifyQuestion(std::string_view bytes);
std::string EncodeVerifyAnswer(const VerifyAnswer& answer);
Result<VerifyAnswer> DecodeVerifyAnswer(std::string_view bytes);

}  // namespace patina::agent
