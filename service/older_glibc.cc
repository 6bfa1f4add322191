// Defines two functions that the static libgcc and libstdc++ of Debian 12 take
// from a newer C library than the rest of workspaced needs. With these,
// the binary runs with glibc 2.34, for example on RHEL 9 and Ubuntu 22.04,
// as the tag manylinux_2_34 of the wheel promises. Only the server's executable
// contains them. They are hidden, so that the C library keeps its own.
#include <dlfcn.h>
#include <link.h>
#include <sys/random.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstdlib>

namespace {

struct Search {
  uintptr_t address;
  dl_find_object* result;
};

// Completes the search and returns 1 if `info` is the object
// that contains the address.
int Visit(dl_phdr_info* info, size_t, void* data) {
  const auto& search = *static_cast<const Search*>(data);
  *search.result = {};
  for (int i = 0; i < info->dlpi_phnum; ++i) {
    const ElfW(Phdr)& segment = info->dlpi_phdr[i];
    const uintptr_t start = info->dlpi_addr + segment.p_vaddr;
    if (segment.p_type == DLFO_EH_SEGMENT_TYPE) {
      search.result->dlfo_eh_frame = reinterpret_cast<void*>(start);
    } else if (segment.p_type == PT_LOAD &&
               search.address - start < segment.p_memsz) {
      search.result->dlfo_map_start = reinterpret_cast<void*>(start);
      search.result->dlfo_map_end =
          reinterpret_cast<void*>(start + segment.p_memsz);
    }
  }
  return search.result->dlfo_map_start != nullptr &&
         search.result->dlfo_eh_frame != nullptr;
}

}  // namespace

// Called by libgcc when an exception is thrown, for each frame (glibc 2.35).
// The map is that of one segment, and there is no link map: libgcc needs
// neither.
__attribute__((visibility("hidden"))) int FindObject(
    void* address, dl_find_object* result) __asm__("_dl_find_object");

int FindObject(void* address, dl_find_object* result) {
  Search search = {reinterpret_cast<uintptr_t>(address), result};
  return dl_iterate_phdr(Visit, &search) == 1 ? 0 : -1;
}

// Called by std::random_device (glibc 2.36).
__attribute__((visibility("hidden"))) uint32_t RandomNumber() __asm__(
    "arc4random");

uint32_t RandomNumber() {
  uint32_t number;
  while (getrandom(&number, sizeof(number), 0) != sizeof(number)) {
    if (errno != EINTR) std::abort();
  }
  return number;
}
