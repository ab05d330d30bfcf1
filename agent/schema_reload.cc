#include "agent/schema_reload.h"

#include <utility>

#include "base/log.h"

namespace patina::agent {

void ReloadSchema(const Config& config, Writer& writer, bool allow_destructive,
                  Writer::SchemaDone done) {
  Result<storage::Schema> schema = storage::LoadSchema(config.schema.paths);
  if (!schema.ok()) return done(schema.error());
  for (const auto& warning : schema->warnings) LogWarning("schema", warning.text);
  writer.ApplySchema(*std::move(schema), allow_destructive, std::move(done));
}

}  // namespace patina::agent
