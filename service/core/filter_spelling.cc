#include "service/core/filter_spelling.h"

#include "absl/strings/match.h"

namespace mlops::core {
namespace {

struct Spelling {
  absl::string_view foreign;
  absl::string_view ours;
};

constexpr absl::string_view kHas = ": or, with * at the ends of the value, =";
constexpr absl::string_view kAlternatives = "(FIELD = A OR FIELD = B)";
constexpr absl::string_view kPresence =
    "FIELD:*, or = null for a null of the metadata";
constexpr absl::string_view kQuote = "\" or '";
constexpr absl::string_view kSpace = "an ordinary space";

constexpr Spelling kWords[] = {
    {"and", "AND"},
    {"or", "OR"},
    {"not", "NOT"},
    {"in", kAlternatives},
    {"is", kPresence},
    {"isnot", kPresence},
    {"exists", "FIELD:*"},
    {"like", kHas},
    {"ilike", kHas},
    {"rlike", kHas},
    {"similar", kHas},
    {"regexp", kHas},
    {"matches", kHas},
    {"contains", ":"},
    {"has", ":"},
    {"startswith", "= with * at the end of the value"},
    {"starts_with", "= with * at the end of the value"},
    {"endswith", "= with * at the beginning of the value"},
    {"ends_with", "= with * at the beginning of the value"},
    {"between", "FIELD >= A AND FIELD <= B"},
    {"equals", "="},
    {"eq", "="},
    {"ne", "!="},
    {"lt", "<"},
    {"le", "<="},
    {"lte", "<="},
    {"gt", ">"},
    {"ge", ">="},
    {"gte", ">="},
    {"xor", "AND, OR and NOT"},
    {"nor", "NOT (A OR B)"},
    {"where", "the condition alone"}};

// Longer symbols come before their own prefixes, because the first match wins.
constexpr Spelling kSymbols[] = {
    {"&&", "AND"},
    {"&", "AND"},
    {"||", "OR"},
    {"|", "OR"},
    {"!==", "!="},
    {"!~", "NOT FIELD: or, with * at the ends of the value, !="},
    {"!:", "NOT FIELD:"},
    {"!", "NOT or -"},
    {"===", "="},
    {"==", "="},
    {":=", "="},
    {"=~", kHas},
    {"~=", kHas},
    {"~", kHas},
    {"=>", ">="},
    {"=<", "<="},
    {"<>", "!="},
    {"^", "NOT"},
    {"%", "*"},
    {",", "AND or OR"},
    {";", "AND"},
    {"+", "AND"},
    {"[", "(FIELD = A OR FIELD = B), or metadata.KEY"},
    {"`", kQuote},
    // Curly quotes, as word processors insert them.
    {"\xe2\x80\x98", kQuote},
    {"\xe2\x80\x99", kQuote},
    {"\xe2\x80\x9a", kQuote},
    {"\xe2\x80\x9c", kQuote},
    {"\xe2\x80\x9d", kQuote},
    {"\xe2\x80\x9e", kQuote},
    {"\xc2\xab", kQuote},
    {"\xc2\xbb", kQuote},
    // Non-breaking and other unusual spaces.
    {"\xc2\xa0", kSpace},
    {"\xe2\x80\x87", kSpace},
    {"\xe2\x80\x8b", kSpace},
    {"\xe2\x80\xaf", kSpace},
    {"\xe3\x80\x80", kSpace},
    {"\xef\xbb\xbf", kSpace},
    // Mathematical signs.
    {"\xe2\x89\xa0", "!="},
    {"\xe2\x89\xa4", "<="},
    {"\xe2\x89\xa5", ">="},
    {"\xe2\x88\xa7", "AND"},
    {"\xe2\x88\xa8", "OR"},
    {"\xc2\xac", "NOT"},
    {"\xe2\x88\x92", "-"}};

constexpr absl::string_view kConstants[] = {"true", "false", "null"};

}  // namespace

std::optional<absl::string_view> SpellingOfWord(absl::string_view word) {
  if (word == "AND" || word == "OR" || word == "NOT") return std::nullopt;
  for (const Spelling& spelling : kWords) {
    if (absl::EqualsIgnoreCase(word, spelling.foreign)) return spelling.ours;
  }
  return std::nullopt;
}

std::optional<ForeignSymbol> FindForeignSymbol(absl::string_view text) {
  for (const Spelling& spelling : kSymbols) {
    if (absl::StartsWith(text, spelling.foreign))
      return ForeignSymbol{spelling.foreign.size(), spelling.ours};
  }
  return std::nullopt;
}

std::optional<absl::string_view> SpellingOfConstant(absl::string_view word) {
  if (word == "None") return "null";
  for (const absl::string_view constant : kConstants) {
    if (word != constant && absl::EqualsIgnoreCase(word, constant))
      return constant;
  }
  return std::nullopt;
}

}  // namespace mlops::core
