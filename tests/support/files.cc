#include "tests/support/files.h"

#include <fstream>
#include <iterator>

#include "base/check.h"

namespace patina::test {

std::string ReadFile(const std::filesystem::path& path) {
  std::ifstream in(path, std::ios::binary);
  return std::string(std::istreambuf_iterator<char>(in), {});
}

void WriteFile(const std::filesystem::path& path, std::string_view text) {
  std::ofstream out(path, std::ios::binary);
  out << text;
  out.close();
  CHECK_MSG(out.good(), "cannot write " + path.string());
}

}  // namespace patina::test
