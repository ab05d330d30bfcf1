#include "storage/bind.h"

#include <cctype>

#include "base/log.h"

namespace patina::storage {
namespace {

Status BindNamed(Stmt& prepared, const Statement& statement, int count) {
  std::vector<bool> bound(static_cast<size_t>(count) + 1);
  for (const auto& [name, value] : statement.named) {
    const int index = sqlite3_bind_parameter_index(prepared.get(), name.c_str());
    if (index == 0) {
      return InvalidArgument("the statement has no parameter named " + name +
                             " (names include their prefix, as in :id)");
    }
    prepared.Bind(index, value);
    bound[static_cast<size_t>(index)] = true;
  }
  for (int i = 1; i <= count; ++i) {
    if (bound[static_cast<size_t>(i)]) continue;
    const char* name = sqlite3_bind_parameter_name(prepared.get(), i);
    return InvalidArgument(
        StrCat("no value for parameter ", name == nullptr ? "?" : name, " (number ", i, ")"));
  }
  return OkStatus();
}

bool OnlyBlank(std::string_view tail) {
  size_t i = 0;
  while (i < tail.size()) {
    if (std::isspace(static_cast<unsigned char>(tail[i])) || tail[i] == ';') {
      ++i;
    } else if (tail.substr(i, 2) == "--") {
      i = std::min(tail.find('\n', i), tail.size());
    } else if (tail.substr(i, 2) == "/*") {
      const size_t end = tail.find("*/", i + 2);
      i = end == std::string_view::npos ? tail.size() : end + 2;
    } else {
      return false;
    }
  }
  return true;
}

}  // namespace

Status BindParameters(Stmt& prepared, const Statement& statement) {
  const int count = sqlite3_bind_parameter_count(prepared.get());
  if (!statement.named.empty()) {
    if (!statement.positional.empty()) {
      return InvalidArgument("give positional or named parameters, not both");
    }
    return BindNamed(prepared, statement, count);
  }
  if (static_cast<size_t>(count) != statement.positional.size()) {
    return InvalidArgument(StrCat("the statement has ", count, " parameter", count == 1 ? "" : "s",
                                  ", ", statement.positional.size(), " given"));
  }
  for (int i = 0; i < count; ++i)
    prepared.Bind(i + 1, statement.positional[static_cast<size_t>(i)]);
  return OkStatus();
}

Result<Stmt> PrepareOne(Db& db, std::string_view sql, size_t bytes_max) {
  if (sql.size() > bytes_max) {
    return ResourceExhausted(StrCat("the statement has ", sql.size(), " bytes; at most ", bytes_max,
                                    " (limit statement_bytes_max): pass values as parameters"));
  }
  if (sql.find('\0') != std::string_view::npos) {
    return InvalidArgument("the statement contains a NUL byte: pass such values as parameters");
  }
  size_t used = 0;
  ASSIGN_OR_RETURN(Stmt statement, db.Prepare(sql, true, &used));
  if (!statement) return InvalidArgument("the statement is empty");
  if (!OnlyBlank(sql.substr(used))) {
    return InvalidArgument(
        "several statements in one text: send them one by one (in one transaction)");
  }
  return statement;
}

}  // namespace patina::storage
