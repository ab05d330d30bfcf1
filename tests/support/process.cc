#include "tests/support/process.h"

#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>

#include "base/check.h"
#include "tests/support/eventually.h"
#include "tests/support/files.h"
#include "tests/support/temporary_folder.h"

extern char** environ;  // NOLINT: POSIX says so

namespace patina::test {
namespace {

/// As exec wants it: pointers into the words, then null.
std::vector<char*> Pointers(std::vector<std::string>& words) {
  std::vector<char*> pointers;
  pointers.reserve(words.size() + 1);
  for (std::string& word : words) pointers.push_back(word.data());
  pointers.push_back(nullptr);
  return pointers;
}

}  // namespace

Process::Process(const std::vector<std::string>& arguments, const Options& options) {
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  const auto redirect = [&actions](int handle, const std::string& file, int flags) {
    const char* path = file.empty() ? "/dev/null" : file.c_str();
    posix_spawn_file_actions_addopen(&actions, handle, path, flags, 0644);
  };
  redirect(STDIN_FILENO, options.input_file, O_RDONLY);
  redirect(STDOUT_FILENO, options.out_file, O_WRONLY | O_CREAT | O_APPEND);
  redirect(STDERR_FILENO, options.error_file, O_WRONLY | O_CREAT | O_APPEND);
  std::vector<std::string> words = {PATINA_BINARY};
  words.insert(words.end(), arguments.begin(), arguments.end());
  std::vector<std::string> environment = options.environment;  // getenv finds the first of a name
  for (char** entry = environ; *entry != nullptr; ++entry) environment.emplace_back(*entry);
  CHECK(::posix_spawn(&pid_, PATINA_BINARY, &actions, nullptr, Pointers(words).data(),
                      Pointers(environment).data()) == 0);
  posix_spawn_file_actions_destroy(&actions);
}

Process::~Process() {
  if (!running()) return;
  Signal(SIGKILL);
  Wait();
}

void Process::Signal(int signal) {
  if (!exit_code_) ::kill(pid_, signal);
}

bool Process::running() {
  if (exit_code_) return false;
  int status = 0;
  if (::waitpid(pid_, &status, WNOHANG) != pid_) return true;
  exit_code_ = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  return false;
}

std::optional<int> Process::Wait(Duration deadline) {
  Eventually([this] { return !running(); }, deadline);
  return exit_code_;
}

RunResult RunPatina(const std::vector<std::string>& arguments,
                    const std::vector<std::string>& environment, const std::string& input,
                    Duration deadline) {
  const TemporaryFolder folder;
  const Process::Options options = {.environment = environment,
                                    .input_file = folder.Write("in", input),
                                    .out_file = folder.File("out"),
                                    .error_file = folder.File("error")};
  Process process(arguments, options);
  RunResult result;
  result.exit_code = process.Wait(deadline).value_or(-1);
  result.out = ReadFile(options.out_file);
  result.error = ReadFile(options.error_file);
  return result;
}

}  // namespace patina::test
