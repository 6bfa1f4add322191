#ifndef MLOPS_SERVICE_ARTIFACTS_RELATIVE_PATH_H_
#define MLOPS_SERVICE_ARTIFACTS_RELATIVE_PATH_H_

#include <string>
#include <utility>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace mlops::artifacts {

inline constexpr size_t kMaxPathBytes = 1024;
inline constexpr size_t kMaxNameBytes = 255;

// The path of an artifact relative to its workspace: names joined by '/',
// of which the first is one of kDirectories. Only Parse() creates objects,
// so that no other path can reach the file system.
//
// A name has 1 to 255 bytes of UTF-8 without '/', '\' and control characters,
// and is not "." or "..". Other programs may create other names on disk;
// in those, each byte that is not allowed or not UTF-8 is shown as `\xHH`,
// in lower case. No allowed name contains '\', so each text stands for exactly
// one name.
class RelativePath {
 public:
  enum class Use {
    // For existing artifacts: names may be escaped.
    kFind,
    // For new artifacts: names must not be escaped.
    kMake,
  };

  // Parses `text`, the value of the request's field `field`.
  // Returns INVALID_ARGUMENT/FIELD_INVALID {field, problem} if it is empty,
  // and INVALID_ARGUMENT/PATH_INVALID {path, problem} if it is not such a path.
  static absl::StatusOr<RelativePath> Parse(absl::string_view text, Use use,
                                            absl::string_view field = "path");

  // The path as on disk, and as on the wire.
  const std::string& on_disk() const { return on_disk_; }
  const std::string& shown() const { return shown_; }

  // The parts of on_disk(): all names but the last ("" if there is only one),
  // and the last name.
  absl::string_view parent() const;
  absl::string_view name() const;

  // Whether the path is one of kDirectories itself.
  bool is_top() const { return on_disk_.find('/') == std::string::npos; }

  // Whether this is `other` or lies below it.
  bool IsWithin(const RelativePath& other) const;

 private:
  RelativePath(std::string on_disk, absl::string_view shown)
      : on_disk_(std::move(on_disk)), shown_(shown) {}

  std::string on_disk_;
  std::string shown_;
};

// Returns a name, or several joined by '/', as shown on the wire.
std::string ShowPath(absl::string_view on_disk);

}  // namespace mlops::artifacts

#endif  // MLOPS_SERVICE_ARTIFACTS_RELATIVE_PATH_H_
