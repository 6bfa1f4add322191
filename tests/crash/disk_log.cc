// A FUSE file system with two files: `disk`, which can be the backing file of a
// loop device, and `mark`. It appends every write to `disk`, every flush of it
// and every write to `mark` to a log, in order. From the log, the disk can be
// rebuilt in any state that a power cut could have left it in.
//
// Usage: disk_log IMAGE LOG MOUNTPOINT
//
// A log record consists of its kind in one byte (W: a write, F: a flush, M: a
// mark), the offset and the size in 8 bytes each, in host byte order, and the
// data.

#define FUSE_USE_VERSION 31
#include <fcntl.h>
#include <fuse3/fuse.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <string_view>

namespace {

constexpr std::string_view kDisk = "/disk";
constexpr std::string_view kMark = "/mark";

int image_fd = -1;
int log_fd = -1;

// Appends a record. Needs no lock, because one thread serves all requests.
// Exits on an error, because a log with a gap is useless.
void Append(char kind, uint64_t offset, const char* data, uint64_t size) {
  const iovec parts[] = {{&kind, 1},
                         {&offset, sizeof(offset)},
                         {&size, sizeof(size)},
                         {const_cast<char*>(data), kind == 'F' ? 0 : size}};
  size_t whole = 0;
  for (const iovec& part : parts) whole += part.iov_len;
  if (::writev(log_fd, parts, 4) == static_cast<ssize_t>(whole)) return;
  std::perror("disk_log: cannot write the log");
  ::_exit(1);
}

int GetAttributes(const char* path, struct stat* attributes, fuse_file_info*) {
  std::memset(attributes, 0, sizeof(*attributes));
  attributes->st_nlink = 1;
  if (std::string_view(path) == "/") {
    attributes->st_mode = S_IFDIR | 0755;
    return 0;
  }
  attributes->st_mode = S_IFREG | 0600;
  if (path == kMark) return 0;
  if (path != kDisk) return -ENOENT;
  struct stat image;
  if (::fstat(image_fd, &image) != 0) return -errno;
  attributes->st_size = image.st_size;
  return 0;
}

int Open(const char* path, fuse_file_info* info) {
  if (path != kDisk && path != kMark) return -ENOENT;
  // Direct I/O makes write(2) return only after the mark is in the log,
  // whatever its offset.
  if (path == kMark) info->direct_io = 1;
  return 0;
}

int Read(const char* path, char* buffer, size_t size, off_t offset,
         fuse_file_info*) {
  if (path != kDisk) return 0;
  const ssize_t count = ::pread(image_fd, buffer, size, offset);
  return count < 0 ? -errno : static_cast<int>(count);
}

int Write(const char* path, const char* data, size_t size, off_t offset,
          fuse_file_info*) {
  if (path == kMark) {
    Append('M', 0, data, size);
    return static_cast<int>(size);
  }
  const ssize_t count = ::pwrite(image_fd, data, size, offset);
  if (count < 0) return -errno;
  Append('W', offset, data, count);
  return static_cast<int>(count);
}

int Sync(const char*, int, fuse_file_info*) {
  Append('F', 0, nullptr, 0);
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 4) {
    std::fprintf(stderr, "usage: disk_log IMAGE LOG MOUNTPOINT\n");
    return 2;
  }
  image_fd = ::open(argv[1], O_RDWR | O_CLOEXEC);
  log_fd = ::open(argv[2], O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  if (image_fd < 0 || log_fd < 0) {
    std::perror("disk_log");
    return 1;
  }
  fuse_operations operations = {};
  operations.getattr = GetAttributes;
  operations.open = Open;
  operations.read = Read;
  operations.write = Write;
  operations.fsync = Sync;
  // Stay in the foreground and use a single thread.
  char foreground[] = "-f", single[] = "-s";
  char* arguments[] = {argv[0], foreground, single, argv[3]};
  return ::fuse_main(4, arguments, &operations, nullptr);
}
