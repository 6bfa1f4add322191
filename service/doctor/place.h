#ifndef MLOPS_SERVICE_DOCTOR_PLACE_H_
#define MLOPS_SERVICE_DOCTOR_PLACE_H_

#include <optional>
#include <string>

#include "absl/strings/string_view.h"

// Resolves locations that other programs have written. Nothing here follows
// a location: paths are compared as text, so no function touches the disk.
namespace mlops::doctor {

// Returns `path` without ".", ".." and repeated slashes. ".." at the root
// stays at the root. `path` must be absolute.
std::string Normalized(absl::string_view path);

// Returns whether the normalized `path` is `directory` or lies below it.
bool IsWithin(absl::string_view path, absl::string_view directory);

// Returns the path that a location names: an absolute path or a file: URI.
// Returns nullopt for anything else, such as "s3://...".
std::optional<std::string> PathOf(absl::string_view location);

// Returns whether `location` is a URL of any scheme but file.
bool IsRemoteUrl(absl::string_view location);

// Returns the name of the entry of `base` that `path` leads through, or "".
std::string EntryOf(absl::string_view path, absl::string_view base);

}  // namespace mlops::doctor

#endif  // MLOPS_SERVICE_DOCTOR_PLACE_H_
