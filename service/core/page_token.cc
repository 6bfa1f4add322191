#include "service/core/page_token.h"

#include <optional>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "proto/cpp/base/error.h"
#include "proto/cpp/base/id.h"
#include "proto/cpp/base/status_macros.h"
#include "service/core/errors.h"

namespace mlops::core {
namespace {

constexpr absl::string_view kVersion = "1";
constexpr size_t kMaxTokenBytes = 4096;
constexpr size_t kChecksumDigits = 16;

// Covers the request's arguments along with the payload, so that a token used
// with other arguments fails like a damaged one.
std::string Checksum(absl::string_view payload, absl::string_view context) {
  return base::HashHex(absl::StrCat(payload, "\n", context), kChecksumDigits);
}

std::string ContextText(const PageContext& context) {
  return absl::StrCat(static_cast<int>(context.order.field), "\n",
                      context.order.descending, "\n", context.show_deleted,
                      "\n", context.caller, "\n", context.filter);
}

std::optional<OrderField> FindField(absl::string_view name) {
  if (name == "project") return OrderField::kProject;
  if (name == "create_time") return OrderField::kCreateTime;
  if (name == "update_time") return OrderField::kUpdateTime;
  return std::nullopt;
}

}  // namespace

std::string SealToken(absl::string_view payload, absl::string_view context) {
  return absl::WebSafeBase64Escape(
      absl::StrCat(Checksum(payload, context), "\n", payload));
}

absl::StatusOr<std::string> OpenToken(absl::string_view token,
                                      absl::string_view context,
                                      absl::string_view field) {
  std::string text;
  if (token.size() > kMaxTokenBytes ||
      !absl::WebSafeBase64Unescape(token, &text))
    return TokenInvalid(field);
  // Unescaping ignores spaces and padding, which tokens never contain, so
  // accept only the exact text that SealToken() returned.
  if (absl::WebSafeBase64Escape(text) != token) return TokenInvalid(field);
  const std::pair<absl::string_view, absl::string_view> parts =
      absl::StrSplit(text, absl::MaxSplits('\n', 1));
  if (parts.first != Checksum(parts.second, context))
    return TokenInvalid(field);
  return std::string(parts.second);
}

std::string EncodePageToken(const PageStart& start,
                            const PageContext& context) {
  const OrderKey& after = start.after;
  return SealToken(absl::StrCat(kVersion, "\n", absl::ToUnixMicros(after.time),
                                "\n", after.project, "\n", after.deleted_uid,
                                "\n", start.matching_count),
                   ContextText(context));
}

absl::StatusOr<PageStart> DecodePageToken(absl::string_view token,
                                          const PageContext& context) {
  ASSIGN_OR_RETURN(const std::string payload,
                   OpenToken(token, ContextText(context)));
  const std::vector<std::string> fields = absl::StrSplit(payload, '\n');
  int64_t micros = 0;
  PageStart start;
  // The checksum is valid, so another layout means a token of another version.
  if (fields.size() != 5 || fields[0] != kVersion ||
      !absl::SimpleAtoi(fields[1], &micros) ||
      !absl::SimpleAtoi(fields[4], &start.matching_count)) {
    return TokenInvalid("page_token");
  }
  start.after = {.time = absl::FromUnixMicros(micros),
                 .project = fields[2],
                 .deleted_uid = fields[3]};
  return start;
}

absl::StatusOr<Order> ParseOrderBy(absl::string_view text) {
  const std::vector<absl::string_view> words =
      absl::StrSplit(text, ' ', absl::SkipEmpty());
  if (words.empty()) return Order{};
  const auto position = [text](absl::string_view word) {
    return static_cast<int>(word.data() - text.data());
  };
  const std::optional<OrderField> field = FindField(words[0]);
  if (!field) {
    return FilterInvalid(
        "order_by", position(words[0]),
        absl::StrCat("expected project, create_time or update_time, not ",
                     base::Echo(words[0])));
  }
  if (words.size() > 1 && words[1] != "desc") {
    return FilterInvalid(
        "order_by", position(words[1]),
        absl::StrCat("expected desc, not ", base::Echo(words[1])));
  }
  if (words.size() > 2)
    return FilterInvalid("order_by", position(words[2]), "expected the end");
  return Order{.field = *field, .descending = words.size() == 2};
}

}  // namespace mlops::core
