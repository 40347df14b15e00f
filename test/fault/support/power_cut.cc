// Takes the power from a mounted ext4: nothing that is not on the device yet gets there any more, the journal included.
//
//   power_cut MOUNT_POINT

#include <fcntl.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <cstdint>
#include <cstdio>

int main(int argc, char** argv) {
  constexpr unsigned long kShutdown = 0x8004587D;  // EXT4_IOC_SHUTDOWN
  uint32_t no_log_flush = 2;                       // EXT4_GOING_FLAGS_NOLOGFLUSH
  const int fd = argc == 2 ? open(argv[1], O_RDONLY | O_DIRECTORY) : -1;
  if (fd < 0 || ioctl(fd, kShutdown, &no_log_flush) != 0) {
    std::perror("power_cut");
    return 1;
  }
  return 0;
}
