#include "crdt/manifest.h"

#include "base/hash.h"

namespace patina::crdt {

bool IsManifest(std::string_view bytes) {
  return !bytes.empty() && static_cast<uint8_t>(bytes[0]) == kManifestFormat;
}

std::string EncodeManifest(const Manifest& manifest) {
  std::string bytes;
  ByteWriter out(&bytes);
  WriteChangesetHeader(kManifestFormat, manifest.header, out);
  out.Varint(manifest.rows);
  out.Varint(manifest.chunks);
  out.Varint(manifest.bytes);
  out.U64(manifest.hash);
  return bytes;
}

Result<Manifest> DecodeManifest(std::string_view bytes) {
  if (!IsManifest(bytes)) {
    return Error{Errc::kUnimplemented, "this is no manifest of a large transaction"};
  }
  ByteReader in(bytes);
  Manifest manifest;
  ASSIGN_OR_RETURN(manifest.header, ReadChangesetHeader(in));
  manifest.rows = in.Varint();
  manifest.chunks = in.Varint();
  manifest.bytes = in.Varint();
  manifest.hash = in.U64();
  // A chunk holds at least one row, and a row takes at least one byte.
  if (!in.ok() || !in.AtEnd() || manifest.chunks == 0 || manifest.chunks > manifest.rows ||
      manifest.rows > manifest.bytes) {
    return InvalidArgument("malformed manifest of a large transaction");
  }
  return manifest;
}

void AddToManifest(std::string_view chunk, Manifest* manifest) {
  ++manifest->chunks;
  manifest->bytes += chunk.size();
  manifest->hash = CombineHash(manifest->hash, Hash64(chunk));
}

}  // namespace patina::crdt
