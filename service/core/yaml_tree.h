#ifndef MLOPS_SERVICE_CORE_YAML_TREE_H_
#define MLOPS_SERVICE_CORE_YAML_TREE_H_

#include <optional>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "nlohmann/json.hpp"

// Reads and writes YAML 1.1. Reads it as PyYAML's safe_load does, but rejects
// features that records do not need. Pure and thread-safe.
namespace mlops::core::yaml {

struct Entry;

// A node as written in the document. Resolve() determines the meaning of a
// scalar.
struct Node {
  enum class Kind { kNull, kScalar, kSequence, kMap };

  Kind kind = Kind::kNull;
  // Text of a scalar.
  std::string text;
  // Whether a scalar was written without quotes, so that it may be something
  // other than a string.
  bool plain = false;
  // First line of the node, counted from 1.
  int line = 0;
  std::vector<Node> items;
  // Keys are scalars and unique.
  std::vector<Entry> entries;
};

struct Entry {
  Node key;
  Node value;
};

struct Problem {
  // Counted from 1; 0 means the document as a whole.
  int line = 0;
  std::string what;
};

// Parses one document into `*root`. Returns a problem if the text is empty,
// malformed or not UTF-8, has a NUL character, is nested deeper than 64 levels,
// or has several documents, duplicate keys, merge keys, anchors, aliases or
// tags.
std::optional<Problem> Parse(absl::string_view text, Node* root);

// Converts `node` to JSON. Plain scalars have the meaning that PyYAML gives
// them, except that dates stay strings. Returns a problem if a number is not
// finite, or an integer lies outside ±(2^53 - 1).
std::optional<Problem> Resolve(const Node& node, nlohmann::json* value);

// Appends `key: value` in block style, indented by `indent` spaces, with a
// trailing newline.
void AppendEntry(absl::string_view key, const nlohmann::json& value, int indent,
                 std::string& out);

// Appends an entry in its original style: plain scalars stay plain, quoted
// scalars stay quoted.
void AppendEntry(const Node& key, const Node& value, int indent,
                 std::string& out);

}  // namespace mlops::core::yaml

#endif  // MLOPS_SERVICE_CORE_YAML_TREE_H_
