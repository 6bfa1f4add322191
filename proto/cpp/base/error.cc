#include "proto/cpp/base/error.h"

#include <utility>

#include "absl/strings/cord.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "nlohmann/json.hpp"
#include "proto/cpp/base/utf8.h"

namespace mlops::base {
namespace {

constexpr absl::string_view kPayloadUrl = "mlops.workspace/error_info";

// Returns the string at `key`; "" if there is none.
std::string TextAt(const nlohmann::json& object, const std::string& key) {
  const auto it = object.find(key);
  return it != object.end() && it->is_string() ? it->get<std::string>() : "";
}

}  // namespace

std::string Echo(absl::string_view value, size_t max_bytes) {
  std::string echo;
  while (!value.empty()) {
    char32_t ignored;
    size_t length = DecodeUtf8(value, &ignored);
    const bool printable =
        length > 1 || (length == 1 && value[0] >= 0x20 && value[0] != 0x7f);
    // Escape an invalid byte alone, so that decoding resumes right after it.
    if (length == 0) length = 1;
    const std::string piece =
        printable ? std::string(value.substr(0, length))
                  : absl::CHexEscape(std::string(value.substr(0, length)));
    // Reserve three bytes for the dots.
    if (echo.size() + piece.size() + 3 > max_bytes)
      return absl::StrCat(echo, "...");
    echo += piece;
    value.remove_prefix(length);
  }
  return echo;
}

absl::Status MakeError(absl::StatusCode code, absl::string_view message,
                       ErrorInfo info) {
  nlohmann::json payload = {{"reason", std::move(info.reason)},
                            {"metadata", nlohmann::json::object()}};
  for (const auto& [key, value] : info.metadata)
    payload["metadata"][key] = Echo(value);
  if (info.retry_delay)
    payload["retry_ms"] = absl::ToInt64Milliseconds(*info.retry_delay);
  absl::Status status(code, std::string(message));
  status.SetPayload(kPayloadUrl, absl::Cord(payload.dump()));
  return status;
}

std::optional<ErrorInfo> GetErrorInfo(const absl::Status& status) {
  const auto payload = status.GetPayload(kPayloadUrl);
  if (!payload) return std::nullopt;
  // Do not throw if the payload is not ours.
  const auto json = nlohmann::json::parse(std::string(*payload), nullptr,
                                          /*allow_exceptions=*/false);
  if (!json.is_object()) return std::nullopt;
  ErrorInfo info{.reason = TextAt(json, "reason")};
  if (const auto metadata = json.find("metadata");
      metadata != json.end() && metadata->is_object()) {
    for (const auto& item : metadata->items())
      info.metadata[item.key()] = TextAt(*metadata, item.key());
  }
  if (const auto retry_ms = json.find("retry_ms");
      retry_ms != json.end() && retry_ms->is_number_integer())
    info.retry_delay = absl::Milliseconds(retry_ms->get<int64_t>());
  return info;
}

absl::Status WithMetadata(absl::Status status, absl::string_view key,
                          absl::string_view value) {
  auto info = GetErrorInfo(status);
  if (!info || !info->metadata.emplace(key, value).second) return status;
  return MakeError(status.code(), status.message(), *std::move(info));
}

std::string GetReason(const absl::Status& status) {
  auto info = GetErrorInfo(status);
  return info ? std::move(info->reason) : "";
}

}  // namespace mlops::base
