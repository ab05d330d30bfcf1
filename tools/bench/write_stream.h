#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "base/status.h"
#include "tools/bench/api_client.h"
#include "tools/bench/samples.h"

namespace patina::tools::bench {

/// Transactions pipelined on one State.ExecuteStream. One thread sends; answers come on gRPC's
/// threads.
class WriteStream {
 public:
  /// window: transactions on the way at most.
  WriteStream(ApiClient& client, size_t window);
  ~WriteStream();
  WriteStream(const WriteStream&) = delete;
  WriteStream& operator=(const WriteStream&) = delete;

  /// Waits while the window is full. False when the stream broke: Finish says why.
  bool Send(v1::ExecuteRequest request);

  struct Totals {
    uint64_t acknowledged = 0, failed = 0;
    std::string first_failure;  // of one transaction; the stream goes on
    Samples latency;
  };
  /// Waits for all answers and closes. The error is the stream's.
  Status Finish();
  /// After Finish.
  const Totals& totals() const;

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace patina::tools::bench
