#include "tools/subscribe_printer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <sstream>

#include "patina/v1/state.pb.h"

namespace patina::tools {
namespace {

v1::SubscribeEvent Columns() {
  v1::SubscribeEvent event;
  event.mutable_columns()->add_names("id");
  return event;
}

v1::SubscribeEvent Insert(const std::string& id, uint64_t change) {
  v1::SubscribeEvent event;
  event.mutable_insert()->set_row_id(1);
  event.mutable_insert()->add_values()->set_text(id);
  event.mutable_insert()->set_change_number(change);
  return event;
}

v1::SubscribeEvent EndOfSnapshot(uint64_t change) {
  v1::SubscribeEvent event;
  event.mutable_end_of_snapshot()->set_change_number(change);
  return event;
}

TEST(SubscribePrinterTest, JsonHasAnObjectPerEvent) {
  std::ostringstream out, notes;
  SubscribePrinter printer(out, notes, Format::kJson, 0);
  printer.Print(Columns());
  printer.Print(EndOfSnapshot(4));
  printer.Print(Insert("m1", 5));
  EXPECT_EQ(out.str(),
            "{\"event\":\"end_of_snapshot\",\"change_number\":4}\n"
            "{\"event\":\"insert\",\"row_id\":1,\"change_number\":5,\"id\":\"m1\"}\n");
  EXPECT_EQ(notes.str(), "");
}

TEST(SubscribePrinterTest, TablesSayOnStderrWhereTheSnapshotEndsAndWhyItStartsOver) {
  std::ostringstream out, notes;
  SubscribePrinter printer(out, notes, Format::kTable, 0);
  printer.Print(Columns());
  printer.Print(EndOfSnapshot(4));
  v1::SubscribeEvent reset;
  reset.mutable_reset()->set_reason("too slow");
  printer.Print(reset);
  EXPECT_THAT(notes.str(), testing::HasSubstr("(change 4)"));
  EXPECT_THAT(notes.str(), testing::HasSubstr("starting over: too slow"));
}

TEST(SubscribePrinterTest, IsDoneAfterTheGivenNumberOfRowsAndChanges) {
  std::ostringstream out, notes;
  SubscribePrinter printer(out, notes, Format::kCsv, 2);
  printer.Print(Columns());
  printer.Print(Insert("a", 1));
  EXPECT_FALSE(printer.done());
  printer.Print(Insert("b", 2));
  EXPECT_TRUE(printer.done());
  printer.Print(Insert("c", 3));
  EXPECT_EQ(out.str(), "event,row_id,change_number,id\ninsert,1,1,a\ninsert,1,2,b\n");
}

}  // namespace
}  // namespace patina::tools
