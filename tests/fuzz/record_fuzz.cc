// A workspace.yaml is what anybody wrote: whatever it is, it is refused or is read, and what was read comes back equal
// from what we write then.
#include <cstdint>
#include <cstdlib>

#include "absl/strings/string_view.h"
#include "service/core/workspace_yaml.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace mlops::core;
  static const RecordPlace& place = *new RecordPlace{.project = *ProjectName::Parse("fraud"),
                                                     .root_path = "/base/fraud",
                                                     .file = "fraud/workspace.yaml",
                                                     .modify_time = absl::FromUnixSeconds(1'700'000'000)};
  const auto read = DecodeWorkspace({reinterpret_cast<const char*>(data), size}, place);
  if (!read.ok()) return 0;
  const auto again = DecodeWorkspace(EncodeWorkspace(*read), place);
  if (!again.ok() || again->metadata != read->metadata || !(again->settings == read->settings)) std::abort();
  if (again->uid != read->uid || again->create_time != read->create_time) std::abort();
  return 0;
}
