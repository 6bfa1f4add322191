#ifndef MLOPS_PROTO_CPP_BASE_STATUS_MACROS_H_
#define MLOPS_PROTO_CPP_BASE_STATUS_MACROS_H_

#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

// The installed version of Abseil has no status macros, so this file defines
// the usual two.

// Returns the status of `expr` from the enclosing function unless it is OK.
#define RETURN_IF_ERROR(expr)                                     \
  do {                                                            \
    if (absl::Status mlops_status = (expr); !mlops_status.ok()) { \
      return mlops_status;                                        \
    }                                                             \
  } while (false)

// Assigns the value of the StatusOr `expr` to `lhs`, which may be a
// declaration. If `expr` has no value, returns its status from the enclosing
// function.
#define ASSIGN_OR_RETURN(lhs, expr) \
  MLOPS_ASSIGN_OR_RETURN_(MLOPS_CONCAT_(mlops_status_or_, __LINE__), lhs, expr)

#define MLOPS_ASSIGN_OR_RETURN_(result, lhs, expr)     \
  auto result = (expr);                                \
  if (!result.ok()) return std::move(result).status(); \
  lhs = std::move(result).value()

#define MLOPS_CONCAT_(a, b) MLOPS_CONCAT_INNER_(a, b)
#define MLOPS_CONCAT_INNER_(a, b) a##b

#endif  // MLOPS_PROTO_CPP_BASE_STATUS_MACROS_H_
