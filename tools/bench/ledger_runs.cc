#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <fstream>
#include <iostream>
#include <iterator>
#include <memory>
#include <mutex>
#include <thread>

#include "base/bytes.h"
#include "patina/v1/state.pb.h"
#include "tools/bench/api_client.h"
#include "tools/bench/ledger.h"
#include "tools/bench/runs.h"
#include "tools/bench/samples.h"
#include "tools/bench/workload.h"
#include "tools/client.h"

namespace patina::tools::bench {
namespace {

constexpr Duration kWriteDeadline = std::chrono::seconds(2);

/// Appends whole lines with one write each: what the kernel has survives a SIGKILL. Any thread.
class LedgerFile {
 public:
  explicit LedgerFile(const std::string& path)
      : file_(::open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644)) {}
  ~LedgerFile() {
    if (file_ >= 0) ::close(file_);
  }
  LedgerFile(const LedgerFile&) = delete;
  LedgerFile& operator=(const LedgerFile&) = delete;

  bool ok() const { return file_ >= 0 && !failed_; }
  void Append(const std::string& line) {
    std::lock_guard lock(mutex_);
    if (::write(file_, line.data(), line.size()) != static_cast<ssize_t>(line.size()))
      failed_ = true;
  }

 private:
  std::mutex mutex_;
  const int file_;
  std::atomic<bool> failed_ = false;
};

struct WriterTotals {
  std::atomic<uint64_t> acknowledged = 0, failed = 0;
  std::atomic<int64_t> longest_gap_ms = 0;  // without an acknowledgement, of any one client
};

/// Writes its own keys in turn; after a failure it goes to the next agent. Values grow for ever.
class LedgerClient {
 public:
  LedgerClient(const LedgerWriteOptions& options, CommandContext& context, std::string prefix,
               LedgerFile& file, WriterTotals& totals)
      : options_(options),
        // With others to go to, a client does not wait for one that is away.
        agents_(ConnectAll(context, options.agents,
                           options.agents.size() == 1 ? WhenAway::kWait : WhenAway::kFail)),
        prefix_(std::move(prefix)),
        file_(file),
        totals_(totals) {}

  void Run(Instant end) {
    Instant last_answer = clock_.Now();
    for (int64_t value = 1; clock_.Now() < end && file_.ok(); ++value) {
      const std::string key =
          prefix_ + std::to_string(static_cast<uint64_t>(value) % options_.keys);
      if (!Write(key, value)) {
        ++totals_.failed;
        ++agent_;
        std::this_thread::sleep_for(std::chrono::milliseconds(5));  // it is down: do not spin
        continue;
      }
      ++totals_.acknowledged;
      const int64_t gap = ToMs(clock_.Now() - last_answer);
      int64_t longest = totals_.longest_gap_ms;
      while (gap > longest && !totals_.longest_gap_ms.compare_exchange_weak(longest, gap)) {
      }
      last_answer = clock_.Now();
    }
  }

 private:
  bool Write(const std::string& key, int64_t value) {
    v1::ExecuteRequest request;
    AddLedgerWrite(key, value, &request);
    v1::ExecuteResponse response;
    ApiClient& agent = *agents_[agent_ % agents_.size()];
    if (!agent.Execute(request, &response, kWriteDeadline).ok()) return false;
    file_.Append(LedgerLine(key, {value, ToHex(response.id().actor()), response.id().version()}));
    return true;
  }

  const LedgerWriteOptions& options_;
  const std::vector<std::unique_ptr<ApiClient>> agents_;
  const std::string prefix_;
  const SystemClock clock_;
  LedgerFile& file_;
  WriterTotals& totals_;
  size_t agent_ = 0;
};

/// Rows of all ledgers on one node.
Result<std::map<std::string, int64_t>> LedgerRows(ApiClient& client, Duration deadline) {
  ASSIGN_OR_RETURN(
      const std::vector<crdt::Row> rows,
      client.Query("SELECT id, updated_ms FROM machines WHERE app = 'ledger'", deadline));
  std::map<std::string, int64_t> values;
  for (const crdt::Row& row : rows) {
    if (row.size() != 2) return Internal("a row of " + std::to_string(row.size()) + " columns");
    values[std::string(row[0].view().bytes())] = row[1].view().integer();
  }
  return values;
}

struct NodeCheck {
  std::string address;
  LedgerDifference difference;
  std::string error;
  bool whole() const { return error.empty() && difference.missing == 0 && difference.stale == 0; }
};

NodeCheck CheckNode(ApiClient& client, const Ledger& ledger, Duration deadline) {
  NodeCheck check;
  check.address = client.address();
  const Result<std::map<std::string, int64_t>> rows = LedgerRows(client, deadline);
  if (rows.ok()) {
    check.difference = CompareLedger(ledger, *rows);
  } else {
    check.difference.keys = ledger.size();
    check.error = rows.error().ToString();
  }
  return check;
}

/// The check of each node when it was whole first, or the last one.
std::vector<NodeCheck> CheckUntilWhole(const std::vector<std::unique_ptr<ApiClient>>& clients,
                                       const Ledger& ledger, Duration wait) {
  const SystemClock clock;
  const Instant end = clock.Now() + wait;
  std::vector<NodeCheck> checks(clients.size());
  std::vector<bool> whole(clients.size(), false);
  while (true) {
    bool all = true;
    for (size_t i = 0; i < clients.size(); ++i) {
      if (!whole[i]) {
        const Duration left = end - clock.Now();
        checks[i] = CheckNode(*clients[i], ledger, std::max<Duration>(left, kWriteDeadline));
        whole[i] = checks[i].whole();
      }
      all = all && whole[i];
    }
    if (all || clock.Now() >= end) return checks;
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
}

}  // namespace

void RunLedgerWrite(const LedgerWriteOptions& options, CommandContext& context) {
  LedgerFile file(options.ledger);
  if (!file.ok()) return Fail(context, "cannot write to " + options.ledger, kExitUsage);
  WriterTotals totals;
  const SystemClock clock;
  const Instant start = clock.Now();
  const Duration length =
      options.seconds > 0
          ? std::chrono::duration_cast<Duration>(std::chrono::duration<double>(options.seconds))
          : std::chrono::hours(24 * 365);
  const std::string prefix = UniquePrefix("ledger");
  std::vector<std::unique_ptr<LedgerClient>> clients;
  std::vector<std::thread> threads;
  for (size_t i = 0; i < options.clients; ++i) {
    clients.push_back(std::make_unique<LedgerClient>(
        options, context, prefix + std::to_string(i) + "-", file, totals));
    threads.emplace_back([&client = *clients.back(), end = start + length] { client.Run(end); });
  }
  for (std::thread& thread : threads) thread.join();
  if (!file.ok()) return Fail(context, "writing to " + options.ledger + " failed", kExitFailed);
  const double took = Seconds(clock.Now() - start);
  const uint64_t acknowledged = totals.acknowledged;
  PrintFields(
      std::cout, context.format,
      {{"acknowledged", crdt::Value::Integer(static_cast<int64_t>(acknowledged))},
       {"failed", crdt::Value::Integer(static_cast<int64_t>(totals.failed.load()))},
       {"seconds", crdt::Value::Real(Rounded(took))},
       {"acknowledged_per_s", crdt::Value::Real(Rounded(static_cast<double>(acknowledged) / took))},
       {"longest_gap_ms", crdt::Value::Integer(totals.longest_gap_ms)}});
  if (acknowledged == 0) context.exit_code = kExitFailed;
}

void RunLedgerCheck(const LedgerCheckOptions& options, CommandContext& context) {
  std::ifstream in(options.ledger, std::ios::binary);
  if (!in) return Fail(context, "cannot read " + options.ledger, kExitUsage);
  const std::string text(std::istreambuf_iterator<char>(in), {});
  const Result<Ledger> ledger = ParseLedger(text, options.ledger);
  if (!ledger.ok()) return Fail(context, ledger.error());
  const SystemClock clock;
  const Instant start = clock.Now();
  const auto clients = ConnectAll(context, options.agents,
                                  options.wait_seconds > 0 ? WhenAway::kWait : WhenAway::kFail);
  const auto wait =
      std::chrono::duration_cast<Duration>(std::chrono::duration<double>(options.wait_seconds));
  const std::vector<NodeCheck> checks = CheckUntilWhole(clients, *ledger, wait);
  const double took = Seconds(clock.Now() - start);
  RowPrinter printer(std::cout, context.format,
                     {"node", "keys", "missing", "stale", "whole", "seconds", "first"});
  for (const NodeCheck& check : checks) {
    const LedgerDifference& difference = check.difference;
    printer.Print({crdt::Value::Text(check.address),
                   crdt::Value::Integer(static_cast<int64_t>(difference.keys)),
                   crdt::Value::Integer(static_cast<int64_t>(difference.missing)),
                   crdt::Value::Integer(static_cast<int64_t>(difference.stale)),
                   crdt::Value::Text(check.whole() ? "yes" : "no"),
                   crdt::Value::Real(Rounded(took)),
                   crdt::Value::Text(check.error.empty() ? difference.first : check.error)});
    if (!check.whole()) context.exit_code = kExitFailed;
  }
  if (ledger->empty()) Fail(context, options.ledger + " has no acknowledged write", kExitFailed);
}

}  // namespace patina::tools::bench
