#include "storage/log.h"

namespace patina::storage {

Result<std::optional<std::string>> ReadChunk(Db& db, const ChangeId& id, uint64_t number) {
  ASSIGN_OR_RETURN(
      Stmt read,
      db.Prepare("SELECT bytes FROM __patina_chunk WHERE actor = ? AND version = ? AND number = ?",
                 false));
  read.BindChange(id);
  read.BindInt(3, static_cast<int64_t>(number));
  ASSIGN_OR_RETURN(const bool found, read.Step());
  if (!found) return std::optional<std::string>();
  return std::optional<std::string>(read.ColumnBytes(0));
}

void EffectWriter::Add(bool took_effect) {
  if (count_ % 8 == 0) bits_.push_back(0);
  if (took_effect) {
    bits_.back() = static_cast<char>(bits_.back() | (1 << (count_ % 8)));
  } else {
    all_ = false;
  }
  ++count_;
}

std::string EffectWriter::Finish() && { return all_ ? std::string() : std::move(bits_); }

bool EffectReader::Next() {
  if (effect_.empty()) return true;
  const size_t byte = position_ / 8, bit = position_ % 8;
  ++position_;
  return byte < effect_.size() && (static_cast<uint8_t>(effect_[byte]) >> bit & 1) != 0;
}

}  // namespace patina::storage
