#include "service/core/yaml_tree.h"

#include <algorithm>
#include <cmath>
#include <istream>
#include <limits>
#include <streambuf>
#include <utility>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "proto/cpp/base/error.h"
#include "proto/cpp/base/utf8.h"
#include "re2/re2.h"
#include "yaml-cpp/eventhandler.h"
#include "yaml-cpp/exceptions.h"
#include "yaml-cpp/mark.h"
#include "yaml-cpp/parser.h"

namespace mlops::core::yaml {
namespace {

using nlohmann::json;

// Bounds the recursion of the functions that walk a tree.
constexpr size_t kMaxDepth = 64;
constexpr int64_t kMaxInteger = (int64_t{1} << 53) - 1;
// Longer keys need the "? " form, because YAML limits simple keys to 1,024
// characters.
constexpr size_t kMaxSimpleKeyBytes = 900;

// --- Parsing ---

// A stream buffer over memory that it does not own.
class ViewBuffer : public std::streambuf {
 public:
  explicit ViewBuffer(absl::string_view text) {
    char* begin = const_cast<char*>(text.data());
    setg(begin, begin, begin + text.size());
  }
};

// Repairs the text of a scalar in which yaml-cpp has decoded two escapes
// wrongly: it writes the byte A0 instead of U+00A0 for \_, and 85 instead of
// U+0085 for \N. The document was valid UTF-8, and yaml-cpp encodes all other
// escapes as UTF-8, so only these two leave such a byte at the start of a
// character. Returns nullopt for any other invalid UTF-8.
std::optional<std::string> WithWholeCharacters(absl::string_view text) {
  if (base::IsValidUtf8(text)) return std::string(text);
  std::string whole;
  while (!text.empty()) {
    char32_t ignored;
    size_t length = base::DecodeUtf8(text, &ignored);
    if (length == 0) {
      if (text[0] != '\xa0' && text[0] != '\x85') return std::nullopt;
      whole += '\xc2';
      length = 1;
    }
    absl::StrAppend(&whole, text.substr(0, length));
    text.remove_prefix(length);
  }
  return whole;
}

// Builds the tree from the parser's events. Ignores all events after the first
// problem.
class TreeBuilder final : public YAML::EventHandler {
 public:
  explicit TreeBuilder(Node* root) : root_(root) {}

  const std::optional<Problem>& problem() const { return problem_; }

  void OnDocumentStart(const YAML::Mark&) override {}
  void OnDocumentEnd() override {}
  void OnNull(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    if (Accept(mark, "", anchor)) Add({.line = mark.line + 1});
  }
  void OnAlias(const YAML::Mark& mark, YAML::anchor_t) override {
    Fail(mark, "aliases (*) are not allowed");
  }
  void OnScalar(const YAML::Mark& mark, const std::string& tag,
                YAML::anchor_t anchor, const std::string& value) override {
    if (!Accept(mark, tag, anchor)) return;
    std::optional<std::string> text = WithWholeCharacters(value);
    if (!text) return Fail(mark, "has an escape that is not a character");
    Add({.kind = Node::Kind::kScalar,
         .text = *std::move(text),
         .plain = tag == "?",
         .line = mark.line + 1});
  }
  void OnSequenceStart(const YAML::Mark& mark, const std::string& tag,
                       YAML::anchor_t anchor,
                       YAML::EmitterStyle::value) override {
    Open(mark, tag, anchor, Node::Kind::kSequence);
  }
  void OnSequenceEnd() override { Close(); }
  void OnMapStart(const YAML::Mark& mark, const std::string& tag,
                  YAML::anchor_t anchor, YAML::EmitterStyle::value) override {
    Open(mark, tag, anchor, Node::Kind::kMap);
  }
  void OnMapEnd() override { Close(); }

 private:
  // A container that is still open.
  struct Level {
    Node node;
    // In a map, the key of the next value.
    std::optional<Node> key;
    absl::flat_hash_set<std::string> keys;
  };

  bool Accept(const YAML::Mark& mark, absl::string_view tag,
              YAML::anchor_t anchor) {
    if (problem_) return false;
    if (anchor != YAML::NullAnchor) Fail(mark, "anchors (&) are not allowed");
    // yaml-cpp reports "?" for a plain scalar and "!" for a quoted one.
    if (!tag.empty() && tag != "?" && tag != "!")
      Fail(mark, "tags (!) are not allowed");
    return !problem_;
  }

  void Fail(const YAML::Mark& mark, absl::string_view what) {
    if (!problem_)
      problem_ = Problem{.line = mark.line + 1, .what = std::string(what)};
  }

  void Open(const YAML::Mark& mark, absl::string_view tag,
            YAML::anchor_t anchor, Node::Kind kind) {
    if (!Accept(mark, tag, anchor)) return;
    if (levels_.size() == kMaxDepth)
      return Fail(mark,
                  absl::StrCat("is nested deeper than ", kMaxDepth, " levels"));
    levels_.push_back({.node = {.kind = kind, .line = mark.line + 1}});
  }

  void Close() {
    if (problem_) return;
    Node node = std::move(levels_.back().node);
    levels_.pop_back();
    Add(std::move(node));
  }

  void Add(Node node) {
    if (levels_.empty()) {
      *root_ = std::move(node);
      return;
    }
    Level& level = levels_.back();
    // In a map, keys and values alternate.
    if (level.node.kind == Node::Kind::kSequence) {
      level.node.items.push_back(std::move(node));
    } else if (level.key) {
      level.node.entries.push_back(
          {.key = *std::move(level.key), .value = std::move(node)});
      level.key.reset();
    } else {
      AddKey(level, std::move(node));
    }
  }

  void AddKey(Level& level, Node key) {
    const auto fail = [&](std::string what) {
      problem_ = Problem{.line = key.line, .what = std::move(what)};
    };
    if (key.kind != Node::Kind::kScalar) return fail("a key must be text");
    if (key.plain && key.text == "<<")
      return fail("merge keys (<<) are not allowed");
    if (!level.keys.insert(key.text).second)
      return fail(
          absl::StrCat("the key ", base::Echo(key.text), " occurs twice"));
    level.key = std::move(key);
  }

  Node* const root_;
  std::vector<Level> levels_;
  std::optional<Problem> problem_;
};

// --- Plain scalars, by the rules of PyYAML's resolver ---

bool IsTrue(absl::string_view text) {
  return text == "yes" || text == "Yes" || text == "YES" || text == "true" ||
         text == "True" || text == "TRUE" || text == "on" || text == "On" ||
         text == "ON";
}

bool IsFalse(absl::string_view text) {
  return text == "no" || text == "No" || text == "NO" || text == "false" ||
         text == "False" || text == "FALSE" || text == "off" || text == "Off" ||
         text == "OFF";
}

bool IsNull(absl::string_view text) {
  return text.empty() || text == "~" || text == "null" || text == "Null" ||
         text == "NULL";
}

bool LooksLikeInt(absl::string_view text) {
  static const RE2& pattern = *new RE2(
      "[-+]?0b[0-1_]+|[-+]?0[0-7_]+|[-+]?(?:0|[1-9][0-9_]*)|[-+]?0x[0-9a-fA-F_]"
      "+|[-+]?[1-9][0-9_]*(?::[0-5]?[0-9])+");
  return RE2::FullMatch(re2::StringPiece(text.data(), text.size()), pattern);
}

bool LooksLikeFloat(absl::string_view text) {
  static const RE2& pattern = *new RE2(
      "[-+]?[0-9][0-9_]*\\.[0-9_]*(?:[eE][-+][0-9]+)?|\\.[0-9][0-9_]*(?:[eE][-+"
      "][0-9]+)?|"
      "[-+]?[0-9][0-9_]*(?::[0-5]?[0-9])+\\.[0-9_]*|[-+]?\\.(?:inf|Inf|INF)|\\."
      "(?:nan|NaN|NAN)");
  return RE2::FullMatch(re2::StringPiece(text.data(), text.size()), pattern);
}

// Returns whether `text` can be a number, judging by its first character.
// This spares most strings a match of the patterns.
bool MayBeNumber(absl::string_view text) {
  return absl::ascii_isdigit(text[0]) || text[0] == '-' || text[0] == '+' ||
         text[0] == '.';
}

// Converts digits of any base, or groups separated by colons in base 60.
// Returns nullopt beyond ±kMaxInteger.
std::optional<int64_t> ToInt(absl::string_view text) {
  std::string digits = absl::StrReplaceAll(text, {{"_", ""}});
  // The prefixes are those of YAML 1.1, where a leading 0 means octal.
  const bool negative = digits[0] == '-';
  if (digits[0] == '-' || digits[0] == '+') digits.erase(0, 1);
  int64_t base = 10;
  if (absl::StartsWith(digits, "0b")) {
    base = 2;
    digits.erase(0, 2);
  } else if (absl::StartsWith(digits, "0x")) {
    base = 16;
    digits.erase(0, 2);
  } else if (digits.size() > 1 && digits[0] == '0') {
    base = 8;
  }
  int64_t sum = 0;
  for (absl::string_view group : absl::StrSplit(digits, ':')) {
    int64_t part = 0;
    for (const char c : group) {
      const int digit =
          absl::ascii_isdigit(c) ? c - '0' : absl::ascii_tolower(c) - 'a' + 10;
      part = part * base + digit;
      // Check after each digit, so that no step overflows.
      if (part > kMaxInteger) return std::nullopt;
    }
    sum = sum * 60 + part;
    if (sum > kMaxInteger) return std::nullopt;
  }
  return negative ? -sum : sum;
}

// Returns nullopt if the value is not finite.
std::optional<double> ToFloat(absl::string_view text) {
  const std::string digits = absl::StrReplaceAll(text, {{"_", ""}});
  // The sign belongs to the whole number, so add up absolute values.
  double sum = 0;
  for (absl::string_view group : absl::StrSplit(digits, ':')) {
    double part = 0;
    if (!absl::SimpleAtod(group, &part) || !std::isfinite(part))
      return std::nullopt;
    sum = std::abs(sum) * 60 + std::abs(part);
  }
  return digits[0] == '-' ? -sum : sum;
}

std::optional<Problem> ResolvePlain(const Node& node, json* value) {
  const absl::string_view text = node.text;
  if (IsNull(text)) {
    *value = nullptr;
  } else if (IsTrue(text) || IsFalse(text)) {
    *value = IsTrue(text);
  } else if (MayBeNumber(text) && LooksLikeInt(text)) {
    const auto number = ToInt(text);
    if (!number) {
      return Problem{node.line,
                     absl::StrCat("the integer ", base::Echo(text),
                                  " is beyond 2^53 - 1, where doubles are not "
                                  "exact: put it in quotes")};
    }
    *value = *number;
  } else if (MayBeNumber(text) && LooksLikeFloat(text)) {
    const auto number = ToFloat(text);
    if (!number)
      return Problem{node.line, absl::StrCat("the number ", base::Echo(text),
                                             " is not finite")};
    *value = *number;
  } else {
    *value = node.text;
  }
  return std::nullopt;
}

// --- Writing ---

// Returns whether every reader of YAML 1.1 and 1.2 reads the unquoted `text` as
// the same string.
bool IsPlainSafe(absl::string_view text) {
  // Exclude numbers and indicators by the first character.
  if (text.empty() ||
      !(absl::ascii_isalpha(text[0]) || text[0] == '/' || text[0] == '_'))
    return false;
  if (IsNull(text) || IsTrue(text) || IsFalse(text) ||
      absl::EqualsIgnoreCase(text, "y") || absl::EqualsIgnoreCase(text, "n") ||
      text.back() == ' ' || text.back() == ':') {
    return false;
  }
  // ": " would begin a value, and readers may fold several spaces. The first
  // character is never a space, so text[i - 1] exists.
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (c == ' ' && (text[i - 1] == ' ' || text[i - 1] == ':')) return false;
    const bool allowed =
        absl::ascii_isalnum(c) || absl::StrContains("_./-+@:=() ", c);
    if (!allowed) return false;
  }
  return true;
}

// Returns whether YAML readers reject, fold or break lines at an unescaped `c`.
bool NeedsEscape(char32_t c) {
  return c < 0x20 || (c >= 0x7f && c < 0xa0) || c == 0x2028 || c == 0x2029 ||
         c == 0xfeff || c == 0xfffe || c == 0xffff;
}

std::string Quoted(absl::string_view text) {
  std::string out = "\"";
  while (!text.empty()) {
    char32_t c = 0;
    const size_t length = std::max<size_t>(base::DecodeUtf8(text, &c), 1);
    if (c == '"' || c == '\\') {
      absl::StrAppend(&out, "\\", text.substr(0, 1));
    } else if (c == '\n') {
      out += "\\n";
    } else if (NeedsEscape(c)) {
      out += c < 0x100 ? absl::StrFormat("\\x%02x", static_cast<uint32_t>(c))
                       : absl::StrFormat("\\u%04x", static_cast<uint32_t>(c));
    } else {
      absl::StrAppend(&out, text.substr(0, length));
    }
    text.remove_prefix(length);
  }
  return out + "\"";
}

std::string StringText(absl::string_view text) {
  return IsPlainSafe(text) ? std::string(text) : Quoted(text);
}

// Adds a dot if there is none, because PyYAML reads only numbers with a dot as
// floats.
std::string FloatText(const json& value) {
  std::string text = value.dump();
  if (absl::StrContains(text, '.')) return text;
  return text.insert(text.find('e'), ".0");
}

// Returns the text of a value that fits on one line, or nullopt for a container
// with content.
std::optional<std::string> InlineText(const json& value) {
  if (value.is_string()) return StringText(value.get_ref<const std::string&>());
  if (value.is_number_float()) return FloatText(value);
  if (value.is_structured() && !value.empty()) return std::nullopt;
  // null, true, false, integers, {} and [].
  return value.dump();
}

std::optional<std::string> InlineText(const Node& node) {
  switch (node.kind) {
    case Node::Kind::kNull:
      return "null";
    case Node::Kind::kScalar:
      // The parser has folded a plain scalar of several lines. One that still
      // has a line break can only be a string, so quoting keeps its value.
      return node.plain && !absl::StrContains(node.text, '\n')
                 ? node.text
                 : Quoted(node.text);
    case Node::Kind::kSequence:
      return node.items.empty() ? std::optional<std::string>("[]")
                                : std::nullopt;
    case Node::Kind::kMap:
      return node.entries.empty() ? std::optional<std::string>("{}")
                                  : std::nullopt;
  }
  return std::nullopt;
}

void AppendItem(const json& item, int indent, std::string& out);
void AppendItem(const Node& item, int indent, std::string& out);

void AppendContainer(const json& value, int indent, std::string& out) {
  if (value.is_array()) {
    for (const json& item : value) AppendItem(item, indent, out);
  } else {
    for (const auto& [key, item] : value.items())
      AppendEntry(key, item, indent, out);
  }
}

void AppendContainer(const Node& value, int indent, std::string& out) {
  for (const Node& item : value.items) AppendItem(item, indent, out);
  for (const auto& [key, item] : value.entries)
    AppendEntry(key, item, indent, out);
}

// Appends the text after a key's colon or an item's dash.
template <typename Value>
void AppendValue(const Value& value, int indent, std::string& out) {
  if (const auto text = InlineText(value)) {
    absl::StrAppend(&out, " ", *text, "\n");
  } else {
    out += '\n';
    AppendContainer(value, indent + 2, out);
  }
}

template <typename Value>
void AppendItemOf(const Value& item, int indent, std::string& out) {
  absl::StrAppend(&out, std::string(indent, ' '), "-");
  AppendValue(item, indent, out);
}
void AppendItem(const json& item, int indent, std::string& out) {
  AppendItemOf(item, indent, out);
}
void AppendItem(const Node& item, int indent, std::string& out) {
  AppendItemOf(item, indent, out);
}

template <typename Value>
void AppendEntryOf(const std::string& key_text, const Value& value, int indent,
                   std::string& out) {
  const std::string spaces(indent, ' ');
  if (key_text.size() > kMaxSimpleKeyBytes) {
    absl::StrAppend(&out, spaces, "? ", key_text, "\n", spaces, ":");
  } else {
    absl::StrAppend(&out, spaces, key_text, ":");
  }
  AppendValue(value, indent, out);
}

// --- Parsing, continued ---

// Marks the end of a document. yaml-cpp accepts the end of the file, but not
// this mark, as the end of a quoted scalar. Without the mark, a truncated
// record would look complete.
constexpr absl::string_view kEndMark = "...\n";

std::optional<Problem> ParseOne(absl::string_view text, Node* root) {
  TreeBuilder builder(root);
  try {
    ViewBuffer buffer(text);
    std::istream stream(&buffer);
    YAML::Parser parser(stream);
    if (!parser.HandleNextDocument(builder)) return Problem{0, "is empty"};
    if (!builder.problem() && parser)
      return Problem{0, "has text after the end of its first document"};
  } catch (const YAML::Exception& error) {
    // Prefer a problem of the builder, which comes first in the text.
    if (!builder.problem())
      return Problem{error.mark.is_null() ? 0 : error.mark.line + 1, error.msg};
  }
  return builder.problem();
}

}  // namespace

std::optional<Problem> Parse(absl::string_view text, Node* root) {
  if (absl::StrContains(text, '\0')) return Problem{0, "has a NUL character"};
  if (!base::IsValidUtf8(text)) return Problem{0, "is not UTF-8"};
  if (!absl::EndsWith(text, "\n")) {
    // Use the mark only to check. The newline before it would change the value
    // of a block scalar at the end, so take the result from the original text.
    Node ignored;
    if (auto problem = ParseOne(absl::StrCat(text, "\n", kEndMark), &ignored))
      return problem;
    return ParseOne(text, root);
  }
  return ParseOne(absl::StrCat(text, kEndMark), root);
}

std::optional<Problem> Resolve(const Node& node, json* value) {
  switch (node.kind) {
    case Node::Kind::kNull:
      *value = nullptr;
      break;
    case Node::Kind::kScalar:
      if (node.plain) return ResolvePlain(node, value);
      *value = node.text;
      break;
    case Node::Kind::kSequence:
      *value = json::array();
      for (const Node& item : node.items) {
        if (auto problem = Resolve(item, &value->emplace_back()))
          return problem;
      }
      break;
    case Node::Kind::kMap:
      *value = json::object();
      for (const auto& [key, item] : node.entries) {
        if (auto problem = Resolve(item, &(*value)[key.text])) return problem;
      }
      break;
  }
  return std::nullopt;
}

void AppendEntry(absl::string_view key, const json& value, int indent,
                 std::string& out) {
  AppendEntryOf(StringText(key), value, indent, out);
}

void AppendEntry(const Node& key, const Node& value, int indent,
                 std::string& out) {
  AppendEntryOf(*InlineText(key), value, indent, out);
}

}  // namespace mlops::core::yaml
