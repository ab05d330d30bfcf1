#include "tools/status_printer.h"

#include <chrono>
#include <nlohmann/json.hpp>
#include <ostream>

#include "base/bytes.h"
#include "patina/v1/admin.pb.h"
#include "tools/proto_values.h"

namespace patina::tools {
namespace {

std::string Hex64(uint64_t number) {
  std::string bytes;
  for (int shift = 56; shift >= 0; shift -= 8) bytes += static_cast<char>(number >> shift & 0xff);
  return ToHex(bytes);
}

/// "sqlite3 (pid 4711), backup (pid 4712)"
std::string Holders(const v1::StatusResponse& status) {
  std::string text;
  for (const v1::WalHolder& holder : status.wal_holders()) {
    text += (text.empty() ? "" : ", ") + holder.command();
    if (holder.pid() != 0) text += " (pid " + std::to_string(holder.pid()) + ")";
  }
  return text.empty() ? "a process that the system does not name" : text;
}

/// What a person should look at first; empty when all is well.
std::vector<std::string> Troubles(const v1::StatusResponse& status) {
  std::vector<std::string> troubles(status.troubles().begin(), status.troubles().end());
  if (!status.busy().empty()) troubles.push_back("busy: " + status.busy());
  if (status.versions_lacking() > 0) {
    troubles.push_back(HumanCount(status.versions_lacking()) +
                       " versions of other members have not arrived here yet");
  }
  uint64_t gaps = 0;
  for (const v1::ActorHead& actor : status.actors()) gaps += actor.gaps();
  if (gaps > 0) troubles.push_back(HumanCount(gaps) + " versions missing below heads (see actors)");
  if (status.parked_size() > 0) {
    troubles.push_back(std::to_string(status.parked_size()) +
                       " changes are parked: received, but not applied yet (see parked)");
  }
  if (status.foreign_rows_size() > 0) {
    troubles.push_back(
        "another SQLite client wrote rows in this node's file (see foreign rows); "
        "`patina verify --adopt` or `patina verify --discard`");
  }
  if (status.collection().set_aside() > 0) {
    troubles.push_back(HumanCount(status.collection().set_aside()) +
                       " changes were set aside when this node took another's file (patina "
                       "set-aside list)");
  }
  if (status.clock_correction_ms() != 0) {
    troubles.push_back("this host's clock is off: corrected by " +
                       std::to_string(status.clock_correction_ms()) + " ms");
  }
  if (status.wal_held_by_others_ms() > 0) {
    troubles.push_back("another process's open read has kept the write-ahead log (" +
                       HumanBytes(status.wal_bytes()) + ") from beginning anew for " +
                       HumanDuration(std::chrono::milliseconds(status.wal_held_by_others_ms())) +
                       ": " + Holders(status) +
                       "; end that read, else the log grows with each write");
  }
  for (const v1::Counter& counter : status.counters()) {
    if (counter.limit() > 0 && counter.value() * 10 >= counter.limit() * 9) {
      troubles.push_back(counter.name() + " is at " + HumanCount(counter.value()) + " of " +
                         HumanCount(counter.limit()));
    }
  }
  if (status.fault_injection()) troubles.push_back("runs with --fault-injection");
  return troubles;
}

uint64_t CounterOf(const v1::StatusResponse& status, std::string_view name) {
  for (const v1::Counter& counter : status.counters()) {
    if (counter.name() == name) return counter.value();
  }
  return 0;
}

/// Of a large transaction of a peer that arrives; empty when none does.
std::string Fetching(const v1::StatusResponse& status) {
  const uint64_t chunks = CounterOf(status, "gossip.large_chunks_of");
  if (chunks == 0) return {};
  return "a large transaction, " + HumanCount(CounterOf(status, "gossip.large_chunks_here")) +
         " of " + HumanCount(chunks) + " chunks are here";
}

/// While the store cannot be asked.
std::vector<Field> BusyIdentity(const v1::StatusResponse& status) {
  return {{"name", Text(status.name())},
          {"region", Text(status.region())},
          {"cluster", Text(status.cluster())},
          {"version", Text(status.version())},
          {"up for", Text(HumanDuration(std::chrono::milliseconds(status.uptime_ms())))},
          {"memory", Text(HumanBytes(status.memory_bytes()))},
          {"busy", Text(status.busy())}};
}

std::vector<Field> Identity(const v1::StatusResponse& status) {
  if (!status.busy().empty()) return BusyIdentity(status);
  std::vector<Field> fields = {
      {"name", Text(status.name())},
      {"region", Text(status.region())},
      {"cluster", Text(status.cluster())},
      {"version", Text(status.version())},
      {"actor", Text(status.actor().empty() ? "none: no local write yet" : HexOf(status.actor()))},
      {"up for", Text(HumanDuration(std::chrono::milliseconds(status.uptime_ms())))},
      {"schema", Text(Hex64(status.schema_hash()))},
      {"newest change", Text(HumanCount(status.change_number()))},
      {"received", Text(status.received_digest())},
      {"file", Text(HumanBytes(status.file_bytes()))},
      {"write-ahead log",
       Text(HumanBytes(status.wal_bytes()) + " of " + HumanBytes(status.wal_bytes_max()) +
            ", began anew " + HumanDuration(std::chrono::milliseconds(status.wal_age_ms())) +
            " ago")},
      {"change log", Text(HumanBytes(status.log_bytes()))},
      {"memory", Text(HumanBytes(status.memory_bytes()))}};
  if (const std::string what = Fetching(status); !what.empty()) {
    fields.push_back({"fetching", Text(what)});
  }
  return fields;
}

void PrintTables(std::ostream& out, const v1::StatusResponse& status) {
  out << "\nTables\n";
  RowPrinter tables(out, Format::kTable, {"table", "rows", "digest"});
  for (const v1::TableStatus& table : status.tables()) {
    tables.Print({Text(table.name()), Number(table.rows()), Text(table.digest())});
  }
}

void PrintActors(std::ostream& out, const v1::StatusResponse& status) {
  out << "\nActors\n";
  RowPrinter actors(out, Format::kTable, {"actor", "node", "head", "gaps"});
  for (const v1::ActorHead& actor : status.actors()) {
    actors.Print({Text(HexOf(actor.actor())), Text(actor.node()), Number(actor.head()),
                  Number(actor.gaps())});
  }
}

std::vector<Field> CollectionFields(const v1::Collection& collection) {
  const auto when = [](int64_t ns) { return Text(ns > 0 ? HumanTime(ns) : "not yet known"); };
  return {{"horizon", Text(collection.horizon_ns() > 0 ? HumanTime(collection.horizon_ns())
                                                       : "nothing was forgotten yet")},
          {"frontier", when(collection.frontier_ns())},
          {"complete here", when(collection.complete_ns())},
          {"held back by", Text(collection.held_back_by())},
          {"because", Text(collection.held_back_reason())},
          {"members", Number(collection.members())},
          {"members forgotten", Number(collection.members_forgotten())},
          {"tombstones", Number(collection.tombstones())},
          {"tombstones forgotten", Number(collection.tombstones_collected())},
          {"set aside", Number(collection.set_aside())},
          {"set aside bytes", Number(collection.set_aside_bytes())}};
}

void PrintParked(std::ostream& out, const v1::StatusResponse& status) {
  if (status.parked_size() == 0) return;
  out << "\nParked\n";
  RowPrinter parked(out, Format::kTable, {"actor", "version", "time", "bytes", "reason"});
  for (const v1::ParkedChange& change : status.parked()) {
    parked.Print({Text(HexOf(change.id().actor())), Number(change.id().version()),
                  Text(HumanTime(change.time_ns())), Number(change.bytes()),
                  Text(change.reason())});
  }
}

std::string KeyText(const google::protobuf::RepeatedPtrField<v1::Value>& key) {
  std::string text;
  for (const crdt::Value& value : FromProto(key)) {
    text += (text.empty() ? "" : ", ") + value.ToString();
  }
  return text;
}

void PrintForeignRows(std::ostream& out, Format format,
                      const google::protobuf::RepeatedPtrField<v1::ForeignRow>& rows) {
  RowPrinter lines(out, format, {"table", "key", "another client", "found", "left because"});
  for (const v1::ForeignRow& row : rows) {
    const std::string key = row.key_size() == 0 ? "(not in the log any more)" : KeyText(row.key());
    lines.Print({Text(row.table()), Text(key), Text(row.kind() + " it"),
                 Text(HumanTime(row.found_ns())), Text(row.why())});
  }
}

void PrintForPeople(std::ostream& out, const v1::StatusResponse& status) {
  const std::vector<std::string> troubles = Troubles(status);
  out << (troubles.empty() ? "Nothing to worry about\n" : "Look at this first\n");
  for (const std::string& trouble : troubles) out << "  ! " << trouble << '\n';
  out << "\nNode\n";
  PrintFields(out, Format::kTable, Identity(status));
  if (status.busy().empty()) {
    out << "\nCollection\n";
    PrintFields(out, Format::kTable, CollectionFields(status.collection()));
    PrintTables(out, status);
    PrintActors(out, status);
    PrintParked(out, status);
  }
  if (status.foreign_rows_size() > 0) {
    out << "\nForeign rows\n";
    PrintForeignRows(out, Format::kTable, status.foreign_rows());
  }
  out << "\nQueues and counters (zeros left out)\n";
  RowPrinter counters(out, Format::kTable, {"counter", "value", "limit"});
  for (const v1::Counter& counter : status.counters()) {
    if (counter.value() == 0) continue;
    counters.Print({Text(counter.name()), Number(counter.value()),
                    counter.limit() > 0 ? Number(counter.limit()) : Text("")});
  }
}

nlohmann::ordered_json StatusLists(const v1::StatusResponse& status) {
  using Json = nlohmann::ordered_json;
  Json lists = {{"actors", Json::array()},      {"tables", Json::array()},
                {"counters", Json::object()},   {"limits", Json::object()},
                {"parked", Json::array()},      {"wal_holders", Json::array()},
                {"foreign_rows", Json::array()}};
  for (const v1::ForeignRow& row : status.foreign_rows()) {
    lists["foreign_rows"].push_back({{"table", row.table()},
                                     {"key", KeyText(row.key())},
                                     {"kind", row.kind()},
                                     {"found_ns", row.found_ns()}});
  }
  for (const v1::ActorHead& actor : status.actors()) {
    lists["actors"].push_back({{"actor", HexOf(actor.actor())},
                               {"node", actor.node()},
                               {"head", actor.head()},
                               {"gaps", actor.gaps()}});
  }
  for (const v1::TableStatus& table : status.tables()) {
    lists["tables"].push_back(
        {{"name", table.name()}, {"rows", table.rows()}, {"digest", table.digest()}});
  }
  for (const v1::Counter& counter : status.counters()) {
    lists["counters"][counter.name()] = counter.value();
    if (counter.limit() > 0) lists["limits"][counter.name()] = counter.limit();
  }
  for (const v1::ParkedChange& change : status.parked()) {
    lists["parked"].push_back({{"actor", HexOf(change.id().actor())},
                               {"version", change.id().version()},
                               {"time_ns", change.time_ns()},
                               {"bytes", change.bytes()},
                               {"reason", change.reason()}});
  }
  for (const v1::WalHolder& holder : status.wal_holders()) {
    lists["wal_holders"].push_back({{"pid", holder.pid()}, {"command", holder.command()}});
  }
  return lists;
}

nlohmann::ordered_json StatusJson(const v1::StatusResponse& status) {
  nlohmann::ordered_json json = {{"name", status.name()},
                                 {"region", status.region()},
                                 {"cluster", status.cluster()},
                                 {"version", status.version()},
                                 {"actor", HexOf(status.actor())},
                                 {"uptime_ms", status.uptime_ms()},
                                 {"schema_hash", Hex64(status.schema_hash())},
                                 {"change_number", status.change_number()},
                                 {"received_digest", status.received_digest()},
                                 {"versions_lacking", status.versions_lacking()},
                                 {"clock_correction_ms", status.clock_correction_ms()},
                                 {"file_bytes", status.file_bytes()},
                                 {"wal_bytes", status.wal_bytes()},
                                 {"wal_bytes_max", status.wal_bytes_max()},
                                 {"wal_age_ms", status.wal_age_ms()},
                                 {"wal_held_by_others_ms", status.wal_held_by_others_ms()},
                                 {"log_bytes", status.log_bytes()},
                                 {"memory_bytes", status.memory_bytes()},
                                 {"fault_injection", status.fault_injection()},
                                 {"busy", status.busy()}};
  const v1::Collection& collection = status.collection();
  json["collection"] = {{"horizon_ns", collection.horizon_ns()},
                        {"frontier_ns", collection.frontier_ns()},
                        {"complete_ns", collection.complete_ns()},
                        {"held_back_by", collection.held_back_by()},
                        {"held_back_reason", collection.held_back_reason()},
                        {"members", collection.members()},
                        {"members_forgotten", collection.members_forgotten()},
                        {"tombstones", collection.tombstones()},
                        {"tombstones_collected", collection.tombstones_collected()},
                        {"set_aside", collection.set_aside()},
                        {"set_aside_bytes", collection.set_aside_bytes()}};
  json.update(StatusLists(status));
  return json;
}

void PrintStatusCsv(std::ostream& out, const v1::StatusResponse& status) {
  RowPrinter lines(out, Format::kCsv, {"name", "value"});
  for (const auto& [name, value] : Identity(status)) lines.Print({Text(name), value});
  for (const auto& [name, value] : CollectionFields(status.collection())) {
    lines.Print({Text("collection." + name), value});
  }
  for (const v1::TableStatus& table : status.tables()) {
    lines.Print({Text("table." + table.name() + ".rows"), Number(table.rows())});
    lines.Print({Text("table." + table.name() + ".digest"), Text(table.digest())});
  }
  for (const v1::Counter& counter : status.counters()) {
    lines.Print({Text(counter.name()), Number(counter.value())});
  }
}

void PrintDifferences(std::ostream& out, Format format, const v1::VerifyResponse& report) {
  RowPrinter lines(out, format,
                   {"table", "key", "column", "node", "value", "time", "actor", "version"});
  for (const auto& difference : report.differences()) {
    const std::string column = difference.column().empty() ? "(row)" : difference.column();
    for (const auto& cell : difference.cells()) {
      lines.Print({Text(difference.table()), Text(KeyText(difference.key())), Text(column),
                   Text(cell.node()), Text(cell.value()), Text(HumanTime(cell.time_ns())),
                   Text(HexOf(cell.id().actor())), Number(cell.id().version())});
    }
  }
}

void PrintDigests(std::ostream& out, Format format, const v1::VerifyResponse& report) {
  RowPrinter lines(out, format, {"node", "table", "rows", "digest"});
  for (const auto& node : report.nodes()) {
    for (const v1::TableStatus& table : node.tables()) {
      lines.Print(
          {Text(node.name()), Text(table.name()), Number(table.rows()), Text(table.digest())});
    }
  }
}

}  // namespace

void PrintStatus(std::ostream& out, Format format, const v1::StatusResponse& status) {
  if (format == Format::kTable) {
    PrintForPeople(out, status);
  } else if (format == Format::kCsv) {
    PrintStatusCsv(out, status);
  } else {
    out << StatusJson(status).dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace)
        << '\n';
  }
}

void PrintVerify(std::ostream& out, Format format, const v1::VerifyResponse& report) {
  if (format != Format::kTable) {
    if (report.foreign_size() > 0) PrintForeignRows(out, format, report.foreign());
    if (report.equal()) return PrintDigests(out, format, report);
    return PrintDifferences(out, format, report);
  }
  if (report.equal()) {
    out << "equal: " << report.nodes_size() << " members hold the same rows\n\n";
  } else {
    out << "DIFFERENT\n\n";
    PrintDifferences(out, format, report);
    out << '\n';
  }
  if (report.foreign_settled() > 0) {
    out << "settled: " << report.foreign_settled() << " rows of another SQLite client\n\n";
  }
  if (report.foreign_size() > 0) {
    out << "Foreign rows of this member\n";
    PrintForeignRows(out, format, report.foreign());
    out << '\n';
  }
  RowPrinter nodes(out, format, {"node", "tables", "rows", "changesets received"});
  for (const auto& node : report.nodes()) {
    uint64_t rows = 0;
    for (const v1::TableStatus& table : node.tables()) rows += table.rows();
    nodes.Print({Text(node.name()), crdt::Value::Integer(node.tables_size()), Number(rows),
                 Number(node.received())});
  }
}

}  // namespace patina::tools
