// Clients can send any filter. It must either be refused, with a position
// inside it, or be evaluable.
#include <cstdint>
#include <cstdlib>

#include "absl/strings/numbers.h"
#include "absl/strings/string_view.h"
#include "proto/cpp/base/error.h"
#include "service/core/filter.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace mlops::core;
  static const Workspace& workspace = *new Workspace{
      .project = *ProjectName::Parse("fraud"),
      .settings = {.mlflow_experiment_id = "17"},
      .metadata = Metadata::parse(
          R"({"a": 1, "b": {"c": [1, "x", null]}, "d": true, "e": "text"})")};
  const absl::string_view text(reinterpret_cast<const char*>(data), size);
  const auto filter = Filter::Parse(text);
  if (filter.ok()) {
    filter->Matches(workspace);
    return 0;
  }
  size_t position = 0;
  const auto info = mlops::base::GetErrorInfo(filter.status());
  if (!info || !absl::SimpleAtoi(info->metadata.at("position"), &position) ||
      position > size)
    std::abort();
  return 0;
}
