// Clients can send any token of a page or of a watch. It must either be refused
// or be one that the server could have issued.
#include <cstdint>
#include <cstdlib>
#include <string>

#include "absl/strings/string_view.h"
#include "service/core/page_token.h"
#include "service/core/resume_token.h"

namespace {

void TryResume(absl::string_view token) {
  using mlops::core::DecodeResumeToken;
  const auto point = DecodeResumeToken(token);
  if (!point.ok()) return;
  const auto again = DecodeResumeToken(EncodeResumeToken(*point));
  if (!again.ok() || !(*again == *point)) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using mlops::core::DecodePageToken;
  const absl::string_view token(reinterpret_cast<const char*>(data), size);
  TryResume(token);
  const mlops::core::PageContext context;
  const auto start = DecodePageToken(token, context);
  if (!start.ok()) return 0;
  const auto again = DecodePageToken(EncodePageToken(*start, context), context);
  if (!again.ok() || !(*again == *start)) std::abort();
  return 0;
}
