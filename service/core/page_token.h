#ifndef MLOPS_SERVICE_CORE_PAGE_TOKEN_H_
#define MLOPS_SERVICE_CORE_PAGE_TOKEN_H_

#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "service/core/catalog.h"

// Encodes the position at which a list resumes. A token is self-contained, so
// it survives a restart and never expires. Pure and thread-safe.
namespace mlops::core {

// The arguments that must be the same for every page.
struct PageContext {
  Order order;
  std::string filter;
  bool show_deleted = false;
  // "" if the caller sees everything.
  std::string caller;
};

// Where a page begins.
struct PageStart {
  // Key of the last workspace on the page before.
  OrderKey after;
  // Number of workspaces that match the filter, counted by the first page.
  // 0 without a filter, where counting is free.
  int64_t matching_count = 0;

  bool operator==(const PageStart&) const = default;
};

// SealToken() encodes `payload` as a token that is valid only with the same
// `context`. OpenToken() returns the payload, or
// INVALID_ARGUMENT/TOKEN_INVALID if SealToken() did not make `token` with the
// same context. `field` names the token in that error.
std::string SealToken(absl::string_view payload, absl::string_view context);
absl::StatusOr<std::string> OpenToken(absl::string_view token,
                                      absl::string_view context,
                                      absl::string_view field = "page_token");

std::string EncodePageToken(const PageStart& start, const PageContext& context);

// Returns INVALID_ARGUMENT/TOKEN_INVALID if EncodePageToken() did not make
// `token` with the same context.
absl::StatusOr<PageStart> DecodePageToken(absl::string_view token,
                                          const PageContext& context);

// Parses "", "<field>" or "<field> desc", where <field> is project, create_time
// or update_time. Ignores extra spaces. Returns INVALID_ARGUMENT/FILTER_INVALID
// {field = "order_by", position in bytes from 0, problem} for any other text.
absl::StatusOr<Order> ParseOrderBy(absl::string_view text);

}  // namespace mlops::core

#endif  // MLOPS_SERVICE_CORE_PAGE_TOKEN_H_
