#include "tests/tools/process_util.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <thread>

namespace patina::tools::test {
namespace {

/// Forks; in the child: redirects, sets the environment, and becomes patina.
pid_t Spawn(const std::vector<std::string>& arguments, const std::vector<std::string>& environment,
            const std::string& in, const std::string& out, const std::string& err) {
  const pid_t pid = ::fork();
  if (pid != 0) return pid;
  auto redirect = [](const std::string& path, int flags, int target) {
    const int fd = ::open(path.c_str(), flags, 0600);
    if (fd < 0 || ::dup2(fd, target) < 0) ::_exit(126);
  };
  redirect(in, O_RDONLY, STDIN_FILENO);
  redirect(out, O_WRONLY | O_CREAT | O_TRUNC, STDOUT_FILENO);
  redirect(err, O_WRONLY | O_CREAT | O_TRUNC, STDERR_FILENO);
  for (const std::string& entry : environment) ::putenv(const_cast<char*>(entry.c_str()));
  std::vector<char*> argv = {const_cast<char*>(PATINA_BINARY)};
  for (const std::string& argument : arguments) argv.push_back(const_cast<char*>(argument.c_str()));
  argv.push_back(nullptr);
  ::execv(PATINA_BINARY, argv.data());
  ::_exit(127);
}

int ExitCode(int status) {
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

}  // namespace

Outcome RunPatina(const std::vector<std::string>& arguments,
                  const std::vector<std::string>& environment, const std::string& input) {
  const Folder folder;
  const std::string in = folder.Write("in", input);
  const std::string out = folder.path() + "/out", err = folder.path() + "/err";
  const pid_t pid = Spawn(arguments, environment, in, out, err);
  int status = 0;
  EXPECT_EQ(::waitpid(pid, &status, 0), pid);
  return {ExitCode(status), ReadFile(out), ReadFile(err)};
}

Background::Background(const std::vector<std::string>& arguments,
                       const std::vector<std::string>& environment, const std::string& stderr_path)
    : pid_(Spawn(arguments, environment, "/dev/null", "/dev/null", stderr_path)) {}

Background::~Background() {
  if (pid_ <= 0) return;
  ::kill(pid_, SIGKILL);
  ::waitpid(pid_, nullptr, 0);
}

void Background::Signal(int signal) { ::kill(pid_, signal); }

int Background::Wait() {
  for (int i = 0; i < 2'000; ++i) {
    int status = 0;
    if (::waitpid(pid_, &status, WNOHANG) == pid_) {
      pid_ = -1;
      return ExitCode(status);
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(10));  // polls a real process
  }
  return -1;
}

Folder::Folder() {
  std::string path = testing::TempDir() + "/patina-test-XXXXXX";
  EXPECT_NE(::mkdtemp(path.data()), nullptr);
  path_ = path;
}

Folder::~Folder() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

std::string Folder::Write(const std::string& name, const std::string& text) const {
  const std::string path = path_ + "/" + name;
  std::ofstream(path, std::ios::binary) << text;
  return path;
}

std::string ReadFile(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

}  // namespace patina::tools::test
