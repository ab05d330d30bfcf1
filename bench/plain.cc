#include "bench/plain.h"

#include <sqlite3.h>

#include <unordered_map>

#include "base/check.h"

namespace patina::bench {

class PlainDatabase::Impl {
 public:
  explicit Impl(const std::string& path) {
    const int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX;
    Expect(sqlite3_open_v2(path.c_str(), &db_, flags, nullptr), SQLITE_OK);
  }

  ~Impl() {
    for (const auto& [sql, statement] : statements_) sqlite3_finalize(statement);
    sqlite3_close(db_);
  }

  void Script(const std::string& sql) {
    Expect(sqlite3_exec(db_, sql.c_str(), nullptr, nullptr, nullptr), SQLITE_OK);
  }

  void Run(const std::string& sql, const std::vector<crdt::Value>& parameters) {
    sqlite3_stmt*& statement = statements_[sql];
    if (statement == nullptr) {
      Expect(
          sqlite3_prepare_v3(db_, sql.c_str(), -1, SQLITE_PREPARE_PERSISTENT, &statement, nullptr),
          SQLITE_OK);
    }
    for (size_t i = 0; i < parameters.size(); ++i) {
      Bind(statement, static_cast<int>(i) + 1, parameters[i].view());
    }
    Expect(sqlite3_step(statement), SQLITE_DONE);
    sqlite3_reset(statement);
  }

 private:
  void Expect(int result, int wanted) { CHECK_MSG(result == wanted, sqlite3_errmsg(db_)); }

  void Bind(sqlite3_stmt* statement, int at, const crdt::ValueView& value) {
    const auto size = static_cast<int>(value.bytes().size());
    switch (value.type()) {
      case crdt::ValueType::kNull:
        return Expect(sqlite3_bind_null(statement, at), SQLITE_OK);
      case crdt::ValueType::kInteger:
        return Expect(sqlite3_bind_int64(statement, at, value.integer()), SQLITE_OK);
      case crdt::ValueType::kReal:
        return Expect(sqlite3_bind_double(statement, at, value.real()), SQLITE_OK);
      case crdt::ValueType::kText:
        return Expect(sqlite3_bind_text(statement, at, value.bytes().data(), size, SQLITE_STATIC),
                      SQLITE_OK);
      case crdt::ValueType::kBlob:
        return Expect(sqlite3_bind_blob(statement, at, value.bytes().data(), size, SQLITE_STATIC),
                      SQLITE_OK);
    }
  }

  sqlite3* db_ = nullptr;
  std::unordered_map<std::string, sqlite3_stmt*> statements_;
};

PlainDatabase::PlainDatabase(const std::string& path, const std::string& schema_sql,
                             int64_t page_cache_kib)
    : impl_(std::make_unique<Impl>(path)) {
  impl_->Script(
      "PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; PRAGMA "
      "wal_autocheckpoint = 2000; PRAGMA cache_size = -" +
      std::to_string(page_cache_kib));
  impl_->Script(schema_sql);
}
PlainDatabase::~PlainDatabase() = default;

void PlainDatabase::Begin() { impl_->Run("BEGIN IMMEDIATE", {}); }
void PlainDatabase::Run(const std::string& sql, const std::vector<crdt::Value>& parameters) {
  impl_->Run(sql, parameters);
}
void PlainDatabase::Commit() { impl_->Run("COMMIT", {}); }

}  // namespace patina::bench
