#include "crdt/manifest.h"

#include <gtest/gtest.h>

#include "tests/crdt/crdt_test_util.h"

namespace patina::crdt {
namespace {

Manifest Sample() {
  Manifest manifest;
  manifest.header.id.actor.bytes[0] = 7;
  manifest.header.id.version = 12;
  manifest.header.time.bits = 345;
  manifest.rows = 40;
  AddToManifest("the first chunk, of some rows", &manifest);
  AddToManifest("the second", &manifest);
  manifest.bytes += 1000;
  return manifest;
}

TEST(ManifestTest, ReadsBackEqual) {
  const Manifest manifest = Sample();
  const std::string bytes = EncodeManifest(manifest);
  EXPECT_TRUE(IsManifest(bytes));
  const auto read = DecodeManifest(bytes);
  ASSERT_TRUE(read.ok());
  EXPECT_EQ(read->header.id, manifest.header.id);
  EXPECT_EQ(read->header.time, manifest.header.time);
  EXPECT_EQ(read->rows, 40u);
  EXPECT_EQ(read->chunks, 2u);
  EXPECT_EQ(read->bytes, manifest.bytes);
  EXPECT_EQ(read->hash, manifest.hash);
}

TEST(ManifestTest, ItsIdIsReadLikeThatOfAChangeset) {
  const auto header = PeekChangesetHeader(EncodeManifest(Sample()));
  ASSERT_TRUE(header.ok());
  EXPECT_EQ(header->id, Sample().header.id);
}

TEST(ManifestTest, IsNoChangesetAndAChangesetIsNone) {
  EXPECT_EQ(ValidateChangeset(EncodeManifest(Sample())).error().code, Errc::kUnimplemented);
  ChangesetBuilder builder(Sample().header);
  const std::string changeset = std::move(builder).Finish();
  EXPECT_FALSE(IsManifest(changeset));
  EXPECT_EQ(DecodeManifest(changeset).error().code, Errc::kUnimplemented);
}

TEST(ManifestTest, CutOffOrImpossibleOnesAreRefused) {
  const std::string bytes = EncodeManifest(Sample());
  for (size_t size = 0; size < bytes.size(); ++size) {
    EXPECT_FALSE(DecodeManifest(std::string_view(bytes).substr(0, size)).ok()) << size;
  }
  EXPECT_FALSE(DecodeManifest(bytes + "x").ok());
  Manifest more_chunks_than_rows = Sample();
  more_chunks_than_rows.chunks = 41;
  EXPECT_FALSE(DecodeManifest(EncodeManifest(more_chunks_than_rows)).ok());
  Manifest none = Sample();
  none.chunks = 0;
  EXPECT_FALSE(DecodeManifest(EncodeManifest(none)).ok());
}

TEST(ManifestTest, TheHashTellsChunksInAnotherOrderApart) {
  Manifest one, other;
  AddToManifest("a", &one);
  AddToManifest("b", &one);
  AddToManifest("b", &other);
  AddToManifest("a", &other);
  EXPECT_NE(one.hash, other.hash);
}

}  // namespace
}  // namespace patina::crdt
