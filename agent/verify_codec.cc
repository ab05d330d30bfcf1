#include "agent/verify_codec.h"

#include "base/bytes.h"
#include "patina/peer/v1/peer.pb.h"

namespace patina::agent {
namespace {

constexpr size_t kTablesMax = 10'000;

bool Parse(std::string_view bytes, google::protobuf::MessageLite* message) {
  return bytes.size() <= INT32_MAX &&
         message->ParseFromArray(bytes.data(), static_cast<int>(bytes.size()));
}

void RowToMessage(const storage::RowDigest& row, peer::v1::VerifyAnswer::Row* message) {
  message->set_key(row.key);
  message->set_hash(row.hash);
  for (const storage::RowDigest::Cell& cell : row.cells) {
    auto* out = message->add_cells();
    out->set_column(cell.column);
    out->set_value(cell.value);
    out->set_time(cell.time.bits);
    out->set_actor(cell.actor.bytes.data(), cell.actor.bytes.size());
    out->set_version(cell.version);
  }
}

Result<storage::RowDigest> RowFromMessage(const peer::v1::VerifyAnswer::Row& message) {
  storage::RowDigest row;
  row.key = message.key();
  row.hash = message.hash();
  for (const auto& cell : message.cells()) {
    const auto actor = ActorId::FromBytes(cell.actor());
    if (!actor) return InvalidArgument("a cell's actor does not have 16 bytes");
    row.cells.push_back(
        {cell.column(), cell.value(), crdt::HlcTime{cell.time()}, *actor, cell.version()});
  }
  return row;
}

}  // namespace

std::string EncodeVerifyQuestion(const VerifyQuestion& question) {
  peer::v1::VerifyQuestion message;
  switch (question.kind) {
    case VerifyQuestion::Kind::kTables:
      message.mutable_tables();
      break;
    case VerifyQuestion::Kind::kBuckets:
      message.mutable_buckets();
      for (const auto& table : question.tables) message.mutable_buckets()->add_tables(table);
      break;
    case VerifyQuestion::Kind::kRows:
      message.mutable_rows();
      for (const auto& [table, bucket] : question.buckets) {
        auto* out = message.mutable_rows()->add_buckets();
        out->set_table(table);
        out->set_bucket(bucket);
      }
      break;
  }
  return message.SerializeAsString();
}

Result<VerifyQuestion> DecodeVerifyQuestion(std::string_view bytes) {
  peer::v1::VerifyQuestion message;
  if (!Parse(bytes, &message)) return InvalidArgument("a question is malformed");
  VerifyQuestion question;
  switch (message.kind_case()) {
    case peer::v1::VerifyQuestion::kTables:
      return question;
    case peer::v1::VerifyQuestion::kBuckets:
      question.kind = VerifyQuestion::Kind::kBuckets;
      question.tables.assign(message.buckets().tables().begin(), message.buckets().tables().end());
      if (question.tables.size() > kTablesMax) return InvalidArgument("too many tables");
      return question;
    case peer::v1::VerifyQuestion::kRows:
      question.kind = VerifyQuestion::Kind::kRows;
      for (const auto& bucket : message.rows().buckets()) {
        question.buckets.emplace_back(bucket.table(), bucket.bucket());
        if (bucket.bucket() >= storage::kDigestBuckets ||
            question.buckets.size() > kVerifyBucketsMax) {
          return InvalidArgument("too many buckets, or one that there is not");
        }
      }
      return question;
    case peer::v1::VerifyQuestion::KIND_NOT_SET:
      break;
  }
  return InvalidArgument("a question of a kind that this release does not know");
}

std::string EncodeVerifyAnswer(const VerifyAnswer& answer) {
  peer::v1::VerifyAnswer message;
  message.set_error(answer.error);
  message.set_received_digest(answer.received_digest);
  message.set_received(answer.received);
  for (const storage::TableDigest& table : answer.tables) {
    auto* out = message.add_tables();
    out->set_name(table.table);
    out->set_digest_low(table.digest.low);
    out->set_digest_high(table.digest.high);
    out->set_rows(table.rows);
  }
  for (const auto& [table, buckets] : answer.buckets) {
    auto* out = message.add_tables();
    out->set_name(table);
    out->mutable_buckets()->Add(buckets.begin(), buckets.end());
  }
  std::string applied;
  ByteWriter writer(&applied);
  answer.applied.Encode(writer);
  message.set_received_set(applied);
  for (const auto& [place, rows] : answer.rows) {
    auto* out = message.add_rows();
    out->set_table(place.first);
    out->set_bucket(place.second);
    for (const storage::RowDigest& row : rows) RowToMessage(row, out->add_rows());
  }
  return message.SerializeAsString();
}

Result<VerifyAnswer> DecodeVerifyAnswer(std::string_view bytes) {
  peer::v1::VerifyAnswer message;
  if (!Parse(bytes, &message)) return InvalidArgument("an answer is malformed");
  VerifyAnswer answer;
  answer.error = message.error();
  answer.received_digest = message.received_digest();
  answer.received = message.received();
  for (const auto& table : message.tables()) {
    answer.tables.push_back(
        {table.name(), {table.digest_low(), table.digest_high()}, table.rows()});
    if (table.buckets_size() == 0) continue;
    if (table.buckets_size() != static_cast<int>(storage::kDigestBuckets)) {
      return InvalidArgument("an answer has a wrong number of buckets");
    }
    answer.buckets[table.name()].assign(table.buckets().begin(), table.buckets().end());
  }
  ByteReader in(message.received_set());
  if (!message.received_set().empty() &&
      !crdt::VersionSet::Decode(in, crdt::VersionSetLimits(), &answer.applied)) {
    return InvalidArgument("an answer's set is malformed");
  }
  for (const auto& bucket : message.rows()) {
    auto& rows = answer.rows[{bucket.table(), bucket.bucket()}];
    for (const auto& row : bucket.rows()) {
      ASSIGN_OR_RETURN(auto decoded, RowFromMessage(row));
      rows.push_back(std::move(decoded));
    }
  }
  return answer;
}

}  // namespace patina::agent
