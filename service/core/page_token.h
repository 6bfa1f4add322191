#ifndef MLOPS_SERVICE_CORE_PAGE_TOKEN_H_
#define MLOPS_SERVICE_CORE_PAGE_TOKEN_H_

#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "service/core/catalog.h"

// Where a list goes on. The token says everything itself, so that it outlives a
// restart and never expires. Pure and thread-safe.
namespace mlops::core {

// The arguments that must be the same on every page.
struct PageContext {
  Order order;
  std::string filter;
  bool show_deleted = false;
};

// Where a page begins.
struct PageStart {
  OrderKey after;  // Of the last workspace of the page before.
  // As the first page counted those that match the filter; 0 without a filter,
  // where counting costs nothing.
  int64_t matching_count = 0;

  bool operator==(const PageStart&) const = default;
};

// `payload` as a token that holds only together with `context`, and back.
// INVALID_ARGUMENT/TOKEN_INVALID if `token` was not made by SealToken() with
// the same context.
std::string SealToken(absl::string_view payload, absl::string_view context);
absl::StatusOr<std::string> OpenToken(absl::string_view token,
                                      absl::string_view context);

std::string EncodePageToken(const PageStart& start, const PageContext& context);

// INVALID_ARGUMENT/TOKEN_INVALID if `token` was not made by EncodePageToken()
// for the same context.
absl::StatusOr<PageStart> DecodePageToken(absl::string_view token,
                                          const PageContext& context);

// "" or "<field>" or "<field> desc", <field> being project, create_time or
// update_time; spaces may be doubled. INVALID_ARGUMENT/FILTER_INVALID {field =
// "order_by", position in bytes from 0, problem} for anything else.
absl::StatusOr<Order> ParseOrderBy(absl::string_view text);

}  // namespace mlops::core

#endif  // MLOPS_SERVICE_CORE_PAGE_TOKEN_H_
