#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "agent/net.h"
#include "agent/writer.h"
#include "storage/store.h"

namespace patina::agent {

struct VerifyReport {
  struct Node {
    std::string name;
    std::vector<storage::TableDigest> tables;
    std::string received_digest;
    uint64_t received = 0;
  };
  struct Cell {
    std::string node, value;
    crdt::HlcTime time;
    ChangeId id;
  };
  struct Difference {
    std::string table;
    std::string key;     // packed
    std::string column;  // "" is the row's existence
    std::vector<Cell> cells;
  };
  bool equal = false;
  std::vector<Node> nodes;
  std::vector<Difference> differences;  // at most 100
  std::vector<std::string> not_reached;
};

/// Compares all members that are alive: table digests, then buckets, then rows. Under load two
/// nodes are seldom at the same point, so a bucket counts as different only when it has not once
/// matched in ten rounds. Any thread.
class Verifier {
 public:
  Verifier(const Config& config, Writer* writer, Net* net);
  ~Verifier();

  /// done is called once, on a thread of the verifier's.
  void Verify(Duration deadline, std::function<void(VerifyReport)> done);
  /// Answers another member's question (Net::InquiryHandler).
  void Answer(std::string payload, std::function<void(std::string)> reply);
  void Stop();

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace patina::agent
