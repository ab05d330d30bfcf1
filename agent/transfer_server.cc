#include "agent/transfer_server.h"

#include <optional>
#include <utility>
#include <vector>

namespace patina::agent {

/// The reader is used by one thread at a time: the pool opens it, the writer begins the snapshot,
/// then the pool reads chunk by chunk, each step handed over by a queue.
struct TransferServer::Session {
  uint64_t serving = 0;
  uint64_t schema = 0;
  crdt::VersionSet receiver_applied;
  std::optional<ChangeId> large = std::nullopt;
  std::unique_ptr<storage::Reader> reader;
  // The net thread's.
  bool busy = true;
  uint64_t next = 0;
  gossip::SharedBytes last_bytes;
  bool last = false;
};

TransferServer::TransferServer(std::string path, Writer* writer, ReaderPool* readers, Post post,
                               Answers answers)
    : path_(std::move(path)),
      writer_(writer),
      readers_(readers),
      post_(std::move(post)),
      answers_(std::move(answers)) {}

TransferServer::~TransferServer() = default;

void TransferServer::Open(gossip::Outputs::OpenTransfer open) {
  auto session = std::make_shared<Session>();
  session->serving = open.serving;
  session->schema = open.schema;
  session->receiver_applied = std::move(open.receiver_applied);
  session->large = open.large;
  session->next = open.first;
  sessions_[open.serving] = session;
  const Status submitted = readers_->Submit([this, session](storage::Reader&) {
    auto reader = storage::Reader::Open(path_, {.snapshots = writer_->snapshots()});
    if (!reader.ok()) {
      Fail(session->serving, reader.error().ToString());
      return;
    }
    session->reader = *std::move(reader);
    if (session->large) {
      ReadNext(session);
    } else {
      Begin(session);
    }
  });
  if (!submitted.ok()) Fail(open.serving, submitted.error().ToString());
}

/// On a reader's thread.
void TransferServer::Begin(const std::shared_ptr<Session>& session) {
  writer_->Run([this, session](storage::Store& store) {
    const Status begun = [&]() -> Status {
      if (store.schema().Hash() != session->schema) return FailedPrecondition("the schemas differ");
      RETURN_IF_ERROR(store.Checkpoint());
      return session->reader->BeginTransfer(store.schema(), session->receiver_applied);
    }();
    if (!begun.ok()) {
      Fail(session->serving, begun.error().ToString());
      return;
    }
    ReadNext(session);
  });
}

/// Any thread; the session is not busy with anything else.
void TransferServer::ReadNext(const std::shared_ptr<Session>& session) {
  const uint64_t number = session->next;
  const Status submitted = readers_->Submit([this, session, number](storage::Reader&) {
    auto chunk = std::make_shared<Result<storage::Reader::TransferChunk>>(
        session->large ? session->reader->ReadLargeChunk(*session->large, number)
                       : session->reader->NextTransferChunk());
    post_([this, serving = session->serving, chunk] { OnChunk(serving, std::move(*chunk)); });
  });
  if (!submitted.ok()) Fail(session->serving, submitted.error().ToString());
}

void TransferServer::OnChunk(uint64_t serving, Result<storage::Reader::TransferChunk> chunk) {
  const auto it = sessions_.find(serving);
  if (it == sessions_.end()) return;  // closed meanwhile
  if (!chunk.ok()) {
    sessions_.erase(it);
    answers_.failed(serving, chunk.error().ToString());
    return;
  }
  Session& session = *it->second;
  session.busy = false;
  session.last_bytes = std::make_shared<const std::string>(std::move(chunk->bytes));
  session.last = chunk->last;
  answers_.chunk(serving, session.next++, session.last_bytes, session.last);
}

void TransferServer::Read(uint64_t serving, uint64_t number) {
  const auto it = sessions_.find(serving);
  if (it == sessions_.end()) {
    answers_.failed(serving, "no such transfer");
    return;
  }
  const std::shared_ptr<Session> session = it->second;
  if (session->busy) return;  // its answer is under way
  if (number == session->next && !session->last) {
    session->busy = true;
    ReadNext(session);
  } else if (number + 1 == session->next) {
    answers_.chunk(serving, number, session->last_bytes, session->last);
  } else {
    sessions_.erase(it);
    answers_.failed(serving, "a chunk out of order");
  }
}

void TransferServer::Close(uint64_t serving) { sessions_.erase(serving); }

void TransferServer::EndTold() {
  std::vector<uint64_t> told;
  for (const auto& [serving, session] : sessions_) {
    // One that is busy finds out by itself.
    if (!session->busy && session->reader->MustEnd()) told.push_back(serving);
  }
  for (const uint64_t serving : told) {
    sessions_.erase(serving);
    answers_.failed(serving, "its snapshot kept the write-ahead log too large");
  }
}

/// Any thread.
void TransferServer::Fail(uint64_t serving, std::string reason) {
  post_([this, serving, reason = std::move(reason)] {
    if (sessions_.erase(serving) != 0) answers_.failed(serving, reason);
  });
}

}  // namespace patina::agent
