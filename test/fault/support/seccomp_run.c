/* Runs a program under a seccomp filter: seccomp_run [--kill] PROGRAM ARGUMENT…
 *
 * RULES is a file that the test writes from a profile: RULE(name, action, has, index, mask, value) a system call that this
 * architecture has. What no rule allows gives EPERM, or with --kill ends the process, so that a call which the profile forgot
 * cannot go unseen. */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#define ALLOW SECCOMP_RET_ALLOW
#define ERRNO(number) (SECCOMP_RET_ERRNO | (number))

#if defined(__x86_64__)
#define NATIVE AUDIT_ARCH_X86_64
#else
#define NATIVE AUDIT_ARCH_AARCH64
#endif

struct rule {
  int number;
  unsigned action;
  int has;
  unsigned index, mask, value;
};

#define RULE(name, action, has, index, mask, value) {__NR_##name, action, has, index, mask, value},
static const struct rule rules[] = {
#include RULES
};

static struct sock_filter code[4096];
static unsigned short length;

static void put(unsigned short op, unsigned char yes, unsigned char no, unsigned k) {
  const struct sock_filter step = {op, yes, no, k};
  code[length++] = step;
}

int main(int count, char** arguments) {
  const int kill = count > 1 && strcmp(arguments[1], "--kill") == 0;
  if (count < 2 + kill) {
    return 2;
  }
  put(BPF_LD | BPF_W | BPF_ABS, 0, 0, offsetof(struct seccomp_data, arch));
  put(BPF_JMP | BPF_JEQ | BPF_K, 1, 0, NATIVE);
  put(BPF_RET | BPF_K, 0, 0, SECCOMP_RET_KILL_PROCESS);
  put(BPF_LD | BPF_W | BPF_ABS, 0, 0, offsetof(struct seccomp_data, nr));
  for (size_t i = 0; i < sizeof rules / sizeof *rules; ++i) {
    const struct rule* rule = &rules[i];
    if (!rule->has) {
      put(BPF_JMP | BPF_JEQ | BPF_K, 0, 1, (unsigned)rule->number);
      put(BPF_RET | BPF_K, 0, 0, rule->action);
      continue;
    }
    put(BPF_JMP | BPF_JEQ | BPF_K, 0, 5, (unsigned)rule->number);
    /* The low half: flags and domains have no more. */
    put(BPF_LD | BPF_W | BPF_ABS, 0, 0, offsetof(struct seccomp_data, args) + 8 * rule->index);
    put(BPF_ALU | BPF_AND | BPF_K, 0, 0, rule->mask);
    put(BPF_JMP | BPF_JEQ | BPF_K, 0, 1, rule->value);
    put(BPF_RET | BPF_K, 0, 0, rule->action);
    put(BPF_LD | BPF_W | BPF_ABS, 0, 0, offsetof(struct seccomp_data, nr));
  }
  put(BPF_RET | BPF_K, 0, 0, kill ? SECCOMP_RET_KILL_PROCESS : ERRNO(EPERM));
  const struct sock_fprog program = {length, code};
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 || syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program) != 0) {
    perror("seccomp");
    return 1;
  }
  execvp(arguments[1 + kill], arguments + 1 + kill);
  perror("exec");
  return 1;
}
