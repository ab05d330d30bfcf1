#include <algorithm>
#include <cctype>
#include <filesystem>
#include <fstream>
#include <map>
#include <set>
#include <sstream>

#define TOML_EXCEPTIONS 0
#include <toml++/toml.h>

#include "base/log.h"
#include "storage/db.h"
#include "storage/introspect.h"
#include "storage/schema.h"

// Schema files: text in, checked tables out, with file and line in every complaint.

namespace patina::storage {
namespace {

namespace fs = std::filesystem;

struct Source {
  std::string file;
  std::string text;
};

struct Declared {
  std::string at;  // "fleet.sql:12"
};

struct TableOptions {
  std::string at;  // "tables.toml:3"
  bool merge_row = false;
  Dropped dropped;
};

/// What tables.toml files say.
struct Options {
  std::map<std::string, TableOptions> tables;
  Dropped dropped_tables;
};

size_t SkipBlank(std::string_view text, size_t position) {
  while (position < text.size()) {
    if (std::isspace(static_cast<unsigned char>(text[position])) || text[position] == ';') {
      ++position;
    } else if (text.substr(position, 2) == "--") {
      position = std::min(text.find('\n', position), text.size());
    } else if (text.substr(position, 2) == "/*") {
      const size_t end = text.find("*/", position + 2);
      position = end == std::string_view::npos ? text.size() : end + 2;
    } else {
      break;
    }
  }
  return position;
}

std::vector<std::string> FirstWords(std::string_view sql, size_t count) {
  std::vector<std::string> words;
  size_t position = 0;
  while (words.size() < count && (position = SkipBlank(sql, position)) < sql.size()) {
    std::string word;
    while (position < sql.size() &&
           (std::isalnum(static_cast<unsigned char>(sql[position])) || sql[position] == '_')) {
      word += static_cast<char>(std::toupper(static_cast<unsigned char>(sql[position++])));
    }
    if (word.empty()) break;
    words.push_back(word);
  }
  return words;
}

Status CheckStatementKind(std::string_view sql, const std::string& at) {
  const std::vector<std::string> words = FirstWords(sql, 3);
  const bool create = !words.empty() && words[0] == "CREATE" && words.size() > 1;
  if (create && (words[1] == "TABLE" || words[1] == "INDEX")) return OkStatus();
  if (create && words[1] == "UNIQUE") {
    return InvalidArgument(at +
                           ": unique indexes cannot be kept across nodes that write at the same "
                           "time; make the columns the primary key");
  }
  return InvalidArgument(at + ": a schema holds CREATE TABLE and CREATE INDEX only, not " +
                         (words.empty() ? std::string("this") : words[0]) +
                         (create ? " " + words[1] : std::string()));
}

/// Runs one file's statements in the scratch database and notes where each table was declared.
Status RunFile(Db& db, const Source& source, std::map<std::string, Declared>* declared) {
  size_t position = 0;
  std::set<std::string> known;
  while ((position = SkipBlank(source.text, position)) < source.text.size()) {
    const auto line =
        1 + std::count(source.text.begin(),
                       source.text.begin() + static_cast<std::ptrdiff_t>(position), '\n');
    const std::string at = source.file + ":" + std::to_string(line);
    const std::string_view rest = std::string_view(source.text).substr(position);
    RETURN_IF_ERROR(CheckStatementKind(rest, at));
    size_t used = 0;
    Result<Stmt> statement = db.Prepare(rest, false, &used);
    if (!statement.ok()) return InvalidArgument(at + ": " + statement.error().message);
    if (Status status = statement->Run(); !status.ok()) {
      return InvalidArgument(at + ": " + status.error().message);
    }
    ASSIGN_OR_RETURN(const std::vector<std::string> tables, UserTables(db));
    for (const std::string& table : tables) declared->try_emplace(table, Declared{at});
    ASSIGN_OR_RETURN(const int64_t internal,
                     db.QueryInt("SELECT count(*) FROM sqlite_schema WHERE name LIKE "
                                 "'\\_\\_patina\\_%' ESCAPE '\\'"));
    if (internal > 0) {
      return InvalidArgument(at + ": names that begin with __patina_ are reserved");
    }
    position += used;
  }
  return OkStatus();
}

Status CountNames(const toml::node& node, const std::string& at, Dropped* dropped) {
  if (!node.is_array()) return InvalidArgument(at + " must be a list of names: [\"name\"]");
  for (const auto& element : *node.as_array()) {
    const std::string name = element.value_or(std::string());
    if (!element.is_string() || name.empty() || name.find('\0') != std::string::npos)
      return InvalidArgument(at + " must be a list of names: [\"name\"]");
    ++(*dropped)[name];
  }
  return OkStatus();
}

Status ParseTablesToml(std::string_view text, const std::string& file, Options* options) {
  toml::parse_result parsed = toml::parse(text);
  if (!parsed) {
    return InvalidArgument(StrCat(file, ":", parsed.error().source().begin.line, ": ",
                                  std::string_view(parsed.error().description())));
  }
  for (const auto& [name, node] : parsed.table()) {
    const std::string line = StrCat(file, ":", node.source().begin.line);
    if (name.str() == "dropped_tables") {
      RETURN_IF_ERROR(CountNames(node, line + ": dropped_tables", &options->dropped_tables));
      continue;
    }
    const std::string at = StrCat(line, ": table ", name.str());
    const toml::table* table = node.as_table();
    if (table == nullptr)
      return InvalidArgument(at + " must be a section: [" + std::string(name.str()) + "]");
    const auto [found, is_new] = options->tables.try_emplace(std::string(name.str()));
    TableOptions& option = found->second;
    if (!is_new) return InvalidArgument(at + " has a section in " + option.at + " already");
    option.at = line;
    for (const auto& [key, value] : *table) {
      if (key.str() == "merge") {
        const std::string merge = value.value_or(std::string());
        if (merge != "cell" && merge != "row")
          return InvalidArgument(at + ": merge is \"cell\" or \"row\"");
        option.merge_row = merge == "row";
      } else if (key.str() == "dropped") {
        RETURN_IF_ERROR(CountNames(value, at + ": dropped", &option.dropped));
      } else {
        return InvalidArgument(at + ": unknown key " + std::string(key.str()) +
                               "; known: merge, dropped");
      }
    }
  }
  return OkStatus();
}

/// What the files of tables.toml say of a table that is declared.
Status ApplyOptions(const TableOptions& option, Table* table) {
  table->merge_row = option.merge_row;
  table->dropped = option.dropped;
  for (Column& column : table->columns) {
    const auto life = option.dropped.find(column.name);
    if (life != option.dropped.end()) column.life = life->second;
  }
  for (const Column& column : table->key) {
    if (!option.dropped.contains(column.name)) continue;
    return InvalidArgument(option.at + ": table " + table->name + ": " + column.name +
                           " is a key column; a key cannot be dropped");
  }
  return OkStatus();
}

Result<Schema> Build(const std::vector<Source>& sources, const Options& options) {
  ASSIGN_OR_RETURN(Db db, Db::Open(":memory:", Db::Mode::kMemory));
  std::map<std::string, Declared> declared;
  for (const Source& source : sources) RETURN_IF_ERROR(RunFile(db, source, &declared));
  Schema schema;
  for (const auto& [name, where] : declared) {
    Result<Table> table = IntrospectTable(db, name);
    if (!table.ok()) return InvalidArgument(where.at + ": " + table.error().message);
    if (table->key_is_rowid) {
      schema.warnings.push_back(
          {where.at + ": table " + name +
           ": INTEGER PRIMARY KEY: ids that SQLite picks may be picked twice by two "
           "nodes; let writers choose them"});
    }
    if (const auto found = options.tables.find(name); found != options.tables.end())
      RETURN_IF_ERROR(ApplyOptions(found->second, &*table));
    if (const auto times = options.dropped_tables.find(name); times != options.dropped_tables.end())
      table->life = times->second;
    schema.tables.push_back(std::move(*table));
  }
  for (const auto& [name, option] : options.tables) {
    if (schema.Find(name) == nullptr) {
      return InvalidArgument(option.at + ": no such table: " + name);
    }
  }
  schema.dropped_tables = options.dropped_tables;
  if (schema.tables.empty()) return InvalidArgument("the schema declares no table");
  return schema;
}

Result<std::string> ReadText(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  if (!in) return NotFound("cannot read " + path.string());
  std::ostringstream text;
  text << in.rdbuf();
  return text.str();
}

}  // namespace

Result<Schema> ParseSchema(std::string_view sql, std::string_view file_name,
                           std::string_view tables_toml) {
  Options options;
  RETURN_IF_ERROR(ParseTablesToml(tables_toml, "tables.toml", &options));
  return Build({{std::string(file_name), std::string(sql)}}, options);
}

Result<Schema> LoadSchema(const std::vector<std::string>& paths) {
  std::vector<Source> sources;
  Options options;
  for (const std::string& given : paths) {
    std::error_code error;
    std::vector<fs::path> files;
    if (fs::is_directory(given, error)) {
      for (const auto& entry : fs::directory_iterator(given, error)) {
        const fs::path& path = entry.path();
        if (path.extension() == ".sql" || path.filename() == "tables.toml") files.push_back(path);
      }
      std::sort(files.begin(), files.end());
      if (files.empty()) return NotFound("no .sql files in the schema folder " + given);
    } else {
      files.emplace_back(given);
    }
    for (const fs::path& file : files) {
      ASSIGN_OR_RETURN(std::string text, ReadText(file));
      if (file.filename() == "tables.toml") {
        RETURN_IF_ERROR(ParseTablesToml(text, file.string(), &options));
      } else {
        sources.push_back({file.string(), std::move(text)});
      }
    }
  }
  if (sources.empty())
    return InvalidArgument("no schema: set [schema] paths to a file or folder with .sql files");
  return Build(sources, options);
}

}  // namespace patina::storage
