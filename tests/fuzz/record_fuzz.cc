// A workspace.yaml can contain anything. It must either be refused or be read;
// clients must be able to decode the result in both cases; and a record
// that was read must be equal after it is written and read again.
#include <cstdint>
#include <cstdlib>

#include "absl/strings/string_view.h"
#include "google/protobuf/util/json_util.h"
#include "proto/cpp/base/utf8.h"
#include "service/core/workspace_yaml.h"
#include "service/rpc/convert.h"

namespace {

// The result must be valid UTF-8: gRPC clients refuse a whole message for one
// invalid byte.
void CheckAnswer(const absl::StatusOr<mlops::core::Workspace>& read) {
  mlops::rpc::pb::Workspace message;
  if (read.ok()) {
    mlops::rpc::ToProto(*read, &message);
  } else if (!mlops::base::IsValidUtf8(read.status().message())) {
    std::abort();
  }
  // The C++ runtime only warns about strings that are not UTF-8,
  // even when it parses them. The JSON conversion refuses them.
  std::string json;
  if (!google::protobuf::util::MessageToJsonString(message, &json).ok() ||
      !mlops::base::IsValidUtf8(json)) {
    std::abort();
  }
  mlops::rpc::pb::Workspace back;
  if (!google::protobuf::util::JsonStringToMessage(json, &back).ok())
    std::abort();
  if (back.SerializeAsString().size() != message.SerializeAsString().size())
    std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace mlops::core;
  static const RecordPlace& place =
      *new RecordPlace{.project = *ProjectName::Parse("fraud"),
                       .root_path = "/base/fraud",
                       .file = "fraud/workspace.yaml",
                       .modify_time = absl::FromUnixSeconds(1'700'000'000)};
  const absl::string_view text(reinterpret_cast<const char*>(data), size);
  const auto read = DecodeWorkspace(text, place);
  CheckAnswer(read);
  if (nlohmann::json::parse(RecordAsJson(text, place.root_path))
          .contains("problem") == read.ok())
    std::abort();
  if (!read.ok()) return 0;
  const auto again = DecodeWorkspace(EncodeWorkspace(*read), place);
  if (!again.ok() || again->metadata != read->metadata ||
      !(again->settings == read->settings))
    std::abort();
  if (again->uid != read->uid || again->create_time != read->create_time)
    std::abort();
  return 0;
}
