// Clients can send any page token. It must either be refused or be one that
// the server could have issued.
#include <cstdint>
#include <cstdlib>
#include <string>

#include "absl/strings/string_view.h"
#include "service/core/page_token.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using mlops::core::DecodePageToken;
  const absl::string_view token(reinterpret_cast<const char*>(data), size);
  const mlops::core::PageContext context;
  const auto start = DecodePageToken(token, context);
  if (!start.ok()) return 0;
  const auto again = DecodePageToken(EncodePageToken(*start, context), context);
  if (!again.ok() || !(*again == *start)) std::abort();
  return 0;
}
