// A file of tokens can contain anything. It must either be refused, with a text
// that can be logged, or keep its meaning when a token is added to it.
#include <cstdint>
#include <cstdlib>
#include <optional>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "proto/cpp/base/utf8.h"
#include "service/auth/caller.h"
#include "service/auth/token_file.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace mlops::auth;
  constexpr absl::string_view kToken = "mlw_of-the-fuzzer";
  const absl::Time now = absl::FromUnixSeconds(1'700'000'000);
  const absl::string_view text(reinterpret_cast<const char*>(data), size);
  const auto table = TokenTable::Parse(text);
  if (!table.ok()) {
    if (!mlops::base::IsValidUtf8(table.status().message())) std::abort();
    return 0;
  }
  const auto found = table->Find(kToken, now);
  if (found.ok() && !NameProblem(*found).empty()) std::abort();
  if (found.ok()) return 0;
  const auto longer = TokenTable::Parse(
      absl::StrCat(text, "\n", TokenLine("robot", kToken, std::nullopt)));
  if (!longer.ok() || longer->size() != table->size() + 1) std::abort();
  if (longer->Find(kToken, now).value() != "robot") std::abort();
  return 0;
}
