#include "tools/subscribe_printer.h"

#include <ostream>

#include "patina/v1/state.pb.h"
#include "tools/proto_values.h"

namespace patina::tools {

SubscribePrinter::SubscribePrinter(std::ostream& out, std::ostream& notes, Format format,
                                   uint64_t events_max)
    : out_(out), notes_(notes), format_(format), events_max_(events_max) {}

void SubscribePrinter::Print(const v1::SubscribeEvent& event) {
  switch (event.kind_case()) {
    case v1::SubscribeEvent::kColumns: {
      const auto& names = event.columns().names();
      std::vector<std::string> columns = {"event", "row_id", "change_number"};
      columns.insert(columns.end(), names.begin(), names.end());
      // The same columns again after a reset: the header is on the screen already.
      if (!printer_ || columns != columns_) {
        columns_ = columns;
        printer_ = std::make_unique<RowPrinter>(out_, format_, std::move(columns), true);
      }
      return;
    }
    case v1::SubscribeEvent::kRow:
      return PrintRow("row", event.row());
    case v1::SubscribeEvent::kInsert:
      return PrintRow("insert", event.insert());
    case v1::SubscribeEvent::kUpdate:
      return PrintRow("update", event.update());
    case v1::SubscribeEvent::kDelete:
      return PrintRow("delete", event.delete_());
    case v1::SubscribeEvent::kEndOfSnapshot:
      return Note("end_of_snapshot", event.end_of_snapshot().change_number(),
                  "end of the snapshot, changes follow");
    case v1::SubscribeEvent::kReset:
      return Note("reset", 0, "starting over: " + event.reset().reason());
    case v1::SubscribeEvent::kHeartbeat:
    case v1::SubscribeEvent::KIND_NOT_SET:
      return;
  }
}

void SubscribePrinter::PrintRow(const char* kind, const v1::SubscribeEvent_RowChange& row) {
  if (done()) return;
  ++events_;
  if (!printer_) {  // resumed: the server need not repeat the columns
    columns_ = {"event", "row_id", "change_number"};
    for (int i = 1; i <= row.values_size(); ++i) columns_.push_back(std::to_string(i));
    printer_ = std::make_unique<RowPrinter>(out_, format_, columns_, true);
  }
  std::vector<crdt::Value> cells = {
      Text(kind), Number(row.row_id()),
      row.change_number() == 0 ? crdt::Value::Null() : Number(row.change_number())};
  for (crdt::Value& value : FromProto(row.values())) cells.push_back(std::move(value));
  printer_->Print(cells);
}

void SubscribePrinter::Note(const std::string& event, uint64_t change_number,
                            const std::string& text) {
  if (format_ == Format::kJson) {
    std::vector<Field> fields = {{"event", Text(event)}};
    if (change_number > 0) fields.emplace_back("change_number", Number(change_number));
    if (event == "reset") fields.emplace_back("reason", Text(text));
    PrintFields(out_, format_, fields);
    return;
  }
  notes_ << "-- " << text;
  if (change_number > 0) notes_ << " (change " << change_number << ")";
  notes_ << std::endl;
}

}  // namespace patina::tools
