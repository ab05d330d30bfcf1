#include "agent/writer.h"

#include <utility>

#include "agent/writer_impl.h"
#include "base/check.h"
#include "base/log.h"

namespace patina::agent {

Writer::Writer(const Config& config, std::unique_ptr<storage::Store> store)
    : impl_(std::make_unique<Impl>(config, std::move(store))) {}
Writer::~Writer() { Stop(); }

void Writer::Start(Listeners listeners) { impl_->Start(std::move(listeners)); }
void Writer::Stop() { impl_->Stop(); }

void Writer::Execute(storage::Transaction transaction, ExecuteDone done) {
  WriterQueue::Local local{std::move(transaction), std::move(done)};
  if (auto error = impl_->queue().AddLocal(&local)) local.done(std::move(*error));
}

void Writer::ApplySchema(storage::Schema wanted, bool allow_destructive, const SchemaDone& done) {
  const bool added = impl_->queue().AddTask(
      [impl = impl_.get(), wanted = std::move(wanted), allow_destructive, done](storage::Store&) {
        impl->ApplySchema(wanted, allow_destructive, done);
      });
  if (!added) done(Unavailable("the agent is stopping"));
}

bool Writer::Merge(std::vector<gossip::Change> changes) {
  return impl_->queue().AddMerges(std::move(changes));
}

bool Writer::StageChunk(gossip::Outputs::StageChunk chunk) {
  return impl_->queue().AddChunk(std::move(chunk));
}

void Writer::StageLarge(uint64_t transfer, gossip::SharedBytes manifest) {
  Run([this, transfer, manifest = std::move(manifest)](storage::Store& store) {
    impl_->TellLargeStaged(transfer, StageLargeManifest(store, *manifest));
  });
}

void Writer::SettleForeignRows(storage::ForeignAction action, const SettledDone& done) {
  const bool added = impl_->queue().AddTask([impl = impl_.get(), action, done](storage::Store&) {
    impl->SettleForeignRows(action, 0, done);
  });
  if (!added) done(Unavailable("the agent is stopping"));
}

void Writer::AbandonTransfers() {
  Run([impl = impl_.get()](storage::Store& store) {
    impl->DropSnapshot();
    const Status status = store.AbandonTransfers();
    if (!status.ok()) LogWarning("writer", "dropping staged chunks: ", status.error().ToString());
  });
}

void Writer::Run(std::function<void(storage::Store&)> task) {
  impl_->queue().AddTask(std::move(task));
}

void Writer::ApplySetAside(const ChangeId& id, ExecuteDone done) {
  const auto shared = std::make_shared<ExecuteDone>(std::move(done));
  const bool added = impl_->queue().AddTask(
      [impl = impl_.get(), id, shared](storage::Store&) { impl->ApplySetAside(id, *shared); });
  if (!added) (*shared)(Unavailable("the agent is stopping"));
}

bool Writer::RunAndWait(const std::function<void(storage::Store&)>& task) {
  CHECK(!impl_->OnThread());
  return impl_->queue().RunAndWait(task);
}

std::shared_ptr<storage::Snapshots> Writer::snapshots() const { return impl_->snapshots(); }
Writer::Stats Writer::stats() const { return impl_->stats(); }
int64_t Writer::LastTurnMs() const { return impl_->LastTurnMs(); }

}  // namespace patina::agent
