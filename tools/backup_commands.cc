#include "tools/backup_commands.h"

#include <grpcpp/channel.h>
#include <grpcpp/client_context.h>
#include <unistd.h>

#include <CLI/App.hpp>
#include <CLI/Validators.hpp>
#include <chrono>
#include <filesystem>
#include <iostream>
#include <memory>

#include "agent/offline.h"
#include "patina/v1/admin.grpc.pb.h"
#include "tools/client.h"
#include "tools/proto_values.h"

namespace patina::tools {
namespace {

struct Options {
  std::string file, config, data_dir;
  uint64_t rate = 50'000'000;  // bytes per second
  bool verify = false, new_cluster = false;
};

Status Damage(const std::string& file, const std::vector<std::string>& problems) {
  if (problems.empty()) return OkStatus();
  std::string message = file + " is damaged";
  for (const std::string& problem : problems) message += "\n  " + problem;
  return DataLoss(message);
}

// ---- backup -------------------------------------------------------------------------------------

void VerifyOnly(const Options& options, CommandContext& context) {
  const Result<storage::FileReport> report = storage::VerifyFile(options.file);
  if (!report.ok()) return Fail(context, report.error());
  uint64_t rows = 0;
  for (const storage::TableDigest& table : report->tables) rows += table.rows;
  PrintFields(std::cout, context.format,
              {{"file", Text(options.file)},
               {"cluster", Text(report->identity.cluster)},
               {"change", Number(report->seq)},
               {"tables", Number(report->tables.size())},
               {"rows", Number(rows)},
               {"not_compared", Number(report->buckets_not_compared)},
               {"sound", Text(report->problems.empty() ? "yes" : "no")}});
  if (Status damage = Damage(options.file, report->problems); !damage.ok()) {
    Fail(context, damage.error());
  }
}

/// Progress on one line, for people who wait.
class ProgressLine {
 public:
  explicit ProgressLine(bool wanted) : wanted_(wanted) {}
  ~ProgressLine() {
    if (shown_) std::cerr << std::endl;
  }
  ProgressLine(const ProgressLine&) = delete;
  ProgressLine& operator=(const ProgressLine&) = delete;

  void Show(const v1::BackupResponse& response) {
    if (!wanted_ || response.done()) return;
    shown_ = true;
    if (response.checking()) {
      std::cerr << "\rchecking the copy          " << std::flush;
    } else {
      std::cerr << '\r' << HumanBytes(response.bytes_done()) << " of "
                << HumanBytes(response.bytes_total()) << "      " << std::flush;
    }
  }

 private:
  const bool wanted_;
  bool shown_ = false;
};

void Backup(const Options& options, CommandContext& context) {
  const Connection connection = DialOrFail(context);
  if (!connection.channel) return;
  grpc::ClientContext call;
  PrepareCall(context, call);
  v1::BackupRequest request;
  request.set_path(std::filesystem::absolute(options.file).lexically_normal());
  request.set_bytes_per_second(options.rate);
  const auto reader = v1::Admin::NewStub(connection.channel)->Backup(&call, request);
  v1::BackupResponse response;
  {
    ProgressLine line(context.format == Format::kTable && ::isatty(STDERR_FILENO) == 1);
    while (reader->Read(&response)) line.Show(response);
  }
  if (const grpc::Status status = reader->Finish(); !status.ok()) return Fail(context, status);
  uint64_t rows = 0;
  for (const v1::TableStatus& table : response.tables()) rows += table.rows();
  PrintFields(std::cout, context.format,
              {{"file", Text(request.path())},
               {"bytes", Number(response.bytes_total())},
               {"change", Number(response.change_number())},
               {"tables", Number(static_cast<uint64_t>(response.tables_size()))},
               {"rows", Number(rows)},
               {"duration_ms", Number(static_cast<uint64_t>(response.duration_ms()))},
               {"hurried", Text(response.hurried() ? "yes" : "no")}});
  const std::vector<std::string> problems(response.problems().begin(), response.problems().end());
  if (Status damage = Damage(request.path(), problems); !damage.ok()) {
    Fail(context, damage.error());
  }
}

// ---- restore, reseed ----------------------------------------------------------------------------

void PrintKept(const std::string& kept_as) {
  if (!kept_as.empty()) std::cerr << "the old file is kept as " << kept_as << '\n';
  std::cerr << "now start the agent\n";
}

void Restore(const Options& options, CommandContext& context) {
  if (options.config.empty() == options.data_dir.empty()) {
    return Fail(context, "say either --config (the agent's) or --data-dir", kExitUsage);
  }
  if (options.new_cluster && options.config.empty()) {
    return Fail(context, "--new-cluster needs --config: that names the cluster", kExitUsage);
  }
  Result<agent::Config> config = agent::LoadConfig(options.config);
  if (!config.ok()) return Fail(context, config.error().message, kExitUsage);
  if (!options.data_dir.empty()) {
    // Nothing else is known of the node.
    config->node.data_dir = options.data_dir;
    config->gossip.cluster.clear();
    config->schema.paths.clear();
  }
  agent::RestoreOptions restore;
  restore.backup = options.file;
  restore.new_cluster = options.new_cluster;
  restore.check_schema = !config->schema.paths.empty();
  const Result<agent::RestoreOutcome> outcome = agent::RestoreBackup(*config, restore);
  if (!outcome.ok()) return Fail(context, outcome.error());
  uint64_t rows = 0;
  for (const storage::TableDigest& table : outcome->report.tables) rows += table.rows;
  PrintFields(std::cout, context.format,
              {{"restored", Text(agent::DatabasePath(*config))},
               {"change", Number(outcome->report.seq)},
               {"tables", Number(outcome->report.tables.size())},
               {"rows", Number(rows)},
               {"kept_as", Text(outcome->kept_as)}});
  PrintKept(outcome->kept_as);
}

void Reseed(const Options& options, CommandContext& context) {
  const Result<agent::Config> config = agent::LoadConfig(options.config);
  if (!config.ok()) return Fail(context, config.error().message, kExitUsage);
  if (config->schema.paths.empty()) {
    return Fail(context, "no tables are configured (schema.paths): name the agent's --config",
                kExitUsage);
  }
  const Result<agent::ReseedOutcome> outcome = agent::Reseed(*config);
  if (!outcome.ok()) return Fail(context, outcome.error());
  for (const std::string& problem : outcome->salvage.problems) {
    std::cerr << "old file: " << problem << '\n';
  }
  PrintFields(std::cout, context.format,
              {{"salvaged", Number(outcome->applied + outcome->parked)},
               {"parked", Number(outcome->parked)},
               {"rejected", Number(outcome->rejected)},
               {"unreadable", Number(outcome->salvage.unreadable)},
               {"kept_as", Text(outcome->kept_as)}});
  PrintKept(outcome->kept_as);
}

}  // namespace

void AddBackupCommands(CLI::App& app, CommandContext& context) {
  const auto options = std::make_shared<Options>();
  CLI::App* backup = app.add_subcommand(
      "backup", "Copy a running node's database to a new file on its host, and check the copy");
  backup->add_option("FILE", options->file, "where to; nothing may be there yet")->required();
  backup
      ->add_option("--rate", options->rate,
                   "bytes per second, as 20MB; default 50MB; 0: as fast as it goes")
      ->transform(CLI::AsSizeValue(true));
  backup->add_flag("--verify", options->verify,
                   "only check FILE, which is there already; no agent is needed");
  backup->callback([options, &context] {
    options->verify ? VerifyOnly(*options, context) : Backup(*options, context);
  });

  CLI::App* restore = app.add_subcommand(
      "restore", "Put a backup in the place of a stopped node's database, which is kept aside");
  restore->add_option("FILE", options->file, "the backup")->required();
  restore->add_option("--config", options->config, "the agent's TOML file");
  restore->add_option("--data-dir", options->data_dir,
                      "the node's folder, without a configuration");
  restore->add_flag("--new-cluster", options->new_cluster,
                    "the backup is of another cluster, and becomes a node of this one");
  restore->callback([options, &context] { Restore(*options, context); });

  CLI::App* reseed = app.add_subcommand(
      "reseed",
      "Rebuild a stopped, damaged node from its peers; what only it had written is salvaged");
  reseed->add_option("--config", options->config, "the agent's TOML file");
  reseed->callback([options, &context] { Reseed(*options, context); });
}

}  // namespace patina::tools
