// A file of keys can contain anything. It must either be refused, with a text
// that can be logged, or contain keys that no signature fits by chance.
#include <cstdint>
#include <cstdlib>

#include "absl/strings/string_view.h"
#include "proto/cpp/base/utf8.h"
#include "service/auth/jwks.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace mlops::auth;
  const absl::string_view text(reinterpret_cast<const char*>(data), size);
  const auto keys = Jwks::Parse(text);
  if (!keys.ok()) {
    if (!mlops::base::IsValidUtf8(keys.status().message())) std::abort();
    return 0;
  }
  if (keys->size() == 0) std::abort();
  for (const auto algorithm : {JwtAlgorithm::kRs256, JwtAlgorithm::kEs256}) {
    const PublicKey* const key = keys->Find("", algorithm);
    if (key != nullptr && key->Verify("data", text)) std::abort();
  }
  return 0;
}
