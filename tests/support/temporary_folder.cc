#include "tests/support/temporary_folder.h"

#include <stdlib.h>

#include <system_error>

#include "base/check.h"
#include "tests/support/files.h"

namespace patina::test {
namespace {

namespace fs = std::filesystem;

/// More than any test writes: containers often have 64 MB there.
constexpr uintmax_t kMemoryBytesMin = 1u << 30;

fs::path UsualParent() {
  const fs::path memory = "/dev/shm";
  std::error_code error;
  const fs::space_info space = fs::space(memory, error);
  const bool has_room = !error && space.available >= kMemoryBytesMin;
  return has_room ? memory : fs::temp_directory_path();
}

}  // namespace

TemporaryFolder::TemporaryFolder(const fs::path& parent) {
  std::string name = (parent.empty() ? UsualParent() : parent) / "patina-test-XXXXXX";
  CHECK_MSG(::mkdtemp(name.data()) != nullptr, "cannot make " + name);
  path_ = name;
}

TemporaryFolder::~TemporaryFolder() {
  std::error_code ignored;
  fs::remove_all(path_, ignored);
}

std::string TemporaryFolder::Write(std::string_view name, std::string_view text) const {
  std::string path = File(name);
  WriteFile(path, text);
  return path;
}

}  // namespace patina::test
