/* A block device that loses power: an nbdkit plugin over one file.
 *
 * A write is seen by reads at once, but counts as durable only after a flush, or when it carried FUA: a device with a volatile
 * write cache, as NBD, SCSI and NVMe specify one. At a cut each write that is not yet durable is kept, dropped, or torn: of a torn
 * write every 512-byte sector survives or is lost by itself. The file then holds just what a device would hold after the power
 * came back, and every request is answered with EIO until the plugin is started again on that file.
 *
 * How: the file always holds the newest bytes. For every write that is not durable the bytes before and after it are kept
 * in memory, in order. A cut first undoes all of them, newest first, which gives the state at the last flush; then it does those
 * again that survive, oldest first. A flush just forgets them.
 *
 * Parameters: image=FILE   the device's content, its size is the device's
 *             control=FILE a Unix socket to make; a client sends "cut SEED\n" and reads one line of JSON with what became of the
 *                          writes; or "count\n" for the number of writes that are not durable
 */
#define _GNU_SOURCE
#define NBDKIT_API_VERSION 2
#include <nbdkit-plugin.h>

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define SECTOR 512
/* Over this much the oldest writes become durable by themselves, as in a device whose cache is full. */
#define PENDING_BYTES_MAX (256u << 20)

/* One write since the last flush. `data` holds the bytes before it, then the bytes it wrote. */
struct pending {
  struct pending *older, *newer;
  uint64_t offset;
  uint32_t len;
  bool durable;
  unsigned char data[];
};

static char *image_path, *control_path;
static int image = -1;
static int64_t image_size;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct pending *oldest, *newest;
static uint64_t pending_count, pending_bytes;
static bool dead;

/* SplitMix64: the same seed tears the same sectors of the same writes. */
static uint64_t random_state;
static uint64_t
next_random (void)
{
  uint64_t z = (random_state += 0x9e3779b97f4a7c15u);
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return z ^ (z >> 31);
}

static int
read_all (void *buf, uint32_t len, uint64_t offset)
{
  for (uint32_t done = 0; done < len;) {
    ssize_t n = pread (image, (char *)buf + done, len - done, (off_t)(offset + done));
    if (n <= 0) {
      if (n == -1 && errno == EINTR)
        continue;
      return -1;
    }
    done += (uint32_t)n;
  }
  return 0;
}

static int
write_all (const void *buf, uint32_t len, uint64_t offset)
{
  for (uint32_t done = 0; done < len;) {
    ssize_t n = pwrite (image, (const char *)buf + done, len - done, (off_t)(offset + done));
    if (n <= 0) {
      if (n == -1 && errno == EINTR)
        continue;
      return -1;
    }
    done += (uint32_t)n;
  }
  return 0;
}

static void
forget_oldest (void)
{
  struct pending *p = oldest;
  oldest = p->newer;
  if (oldest)
    oldest->older = NULL;
  else
    newest = NULL;
  pending_count--;
  pending_bytes -= p->len;
  free (p);
}

static void
forget_all (void)
{
  while (oldest)
    forget_oldest ();
}

/* Does `p` again as far as it survives; counts it in kept, dropped or torn. */
static int
survive (const struct pending *p, uint64_t *kept, uint64_t *dropped, uint64_t *torn)
{
  const unsigned char *after = p->data + p->len;
  uint64_t fate = p->durable ? 0 : next_random () % 3;
  if (fate == 0) {
    ++*kept;
    return write_all (after, p->len, p->offset);
  }
  if (fate == 1) {
    ++*dropped;
    return 0;
  }
  ++*torn;
  for (uint32_t at = 0; at < p->len; at += SECTOR) {
    uint32_t len = p->len - at < SECTOR ? p->len - at : SECTOR;
    if (next_random () & 1 && write_all (after + at, len, p->offset + at) == -1)
      return -1;
  }
  return 0;
}

/* Cuts the power. The answer is one line of JSON. */
static void
cut (uint64_t seed, char *answer, size_t answer_len)
{
  uint64_t kept = 0, dropped = 0, torn = 0, writes = pending_count;
  int failed = 0;
  random_state = seed;
  dead = true;
  for (struct pending *p = newest; p; p = p->older)
    failed |= write_all (p->data, p->len, p->offset);
  for (struct pending *p = oldest; p; p = p->newer)
    failed |= survive (p, &kept, &dropped, &torn);
  forget_all ();
  snprintf (answer, answer_len,
            "{\"failed\":%s,\"unflushed\":%" PRIu64 ",\"kept\":%" PRIu64 ",\"dropped\":%" PRIu64 ",\"torn\":%" PRIu64 "}\n",
            failed ? "true" : "false", writes, kept, dropped, torn);
}

/* Serves the control socket, one client and one command at a time. */
static void *
control (void *argument)
{
  int listener = (int)(intptr_t)argument;
  for (;;) {
    char line[64] = "", answer[256] = "unknown command\n";
    uint64_t seed;
    int client = accept (listener, NULL, NULL);
    if (client == -1)
      continue;
    ssize_t n = read (client, line, sizeof line - 1);
    if (n > 0) {
      pthread_mutex_lock (&lock);
      if (sscanf (line, "cut %" SCNu64, &seed) == 1)
        cut (seed, answer, sizeof answer);
      else if (strncmp (line, "count", 5) == 0)
        snprintf (answer, sizeof answer, "%" PRIu64 "\n", pending_count);
      pthread_mutex_unlock (&lock);
      if (write (client, answer, strlen (answer)) == -1)
        nbdkit_debug ("control: %m");
    }
    close (client);
  }
  return NULL;
}

static int
powercut_config (const char *key, const char *value)
{
  if (strcmp (key, "image") == 0)
    image_path = nbdkit_absolute_path (value);
  else if (strcmp (key, "control") == 0)
    control_path = nbdkit_absolute_path (value);
  else {
    nbdkit_error ("unknown parameter '%s'", key);
    return -1;
  }
  return 0;
}

static int
powercut_config_complete (void)
{
  if (!image_path || !control_path) {
    nbdkit_error ("both image=FILE and control=FILE are needed");
    return -1;
  }
  return 0;
}

/* Runs after nbdkit has gone to the background: threads made earlier would not survive that. */
static int
powercut_after_fork (void)
{
  struct sockaddr_un address = { .sun_family = AF_UNIX };
  struct stat status;
  pthread_t thread;
  int listener;

  image = open (image_path, O_RDWR | O_CLOEXEC);
  if (image == -1 || fstat (image, &status) == -1) {
    nbdkit_error ("%s: %m", image_path);
    return -1;
  }
  image_size = status.st_size;
  if (strlen (control_path) >= sizeof address.sun_path) {
    nbdkit_error ("%s: too long for a socket's path", control_path);
    return -1;
  }
  strcpy (address.sun_path, control_path);
  unlink (control_path);
  listener = socket (AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (listener == -1 || bind (listener, (struct sockaddr *)&address, sizeof address) == -1 || listen (listener, 1) == -1) {
    nbdkit_error ("%s: %m", control_path);
    return -1;
  }
  errno = pthread_create (&thread, NULL, control, (void *)(intptr_t)listener);
  if (errno != 0) {
    nbdkit_error ("control thread: %m");
    return -1;
  }
  return 0;
}

static void *
powercut_open (int readonly)
{
  return NBDKIT_HANDLE_NOT_NEEDED;
}

static int64_t
powercut_get_size (void *handle)
{
  return image_size;
}

static int
powercut_can_fua (void *handle)
{
  return NBDKIT_FUA_NATIVE;
}

/* What one client flushed is durable for all: one device, however many connections. */
static int
powercut_can_multi_conn (void *handle)
{
  return 1;
}

static int
powercut_pread (void *handle, void *buf, uint32_t count, uint64_t offset, uint32_t flags)
{
  int result = -1;
  pthread_mutex_lock (&lock);
  if (!dead)
    result = read_all (buf, count, offset);
  pthread_mutex_unlock (&lock);
  if (result == -1)
    nbdkit_set_error (EIO);
  return result;
}

static int
remember_and_write (const void *buf, uint32_t count, uint64_t offset, bool durable)
{
  struct pending *p = malloc (sizeof *p + 2 * (size_t)count);
  if (!p)
    return -1;
  *p = (struct pending){ .older = newest, .offset = offset, .len = count, .durable = durable };
  memcpy (p->data + count, buf, count);
  if (read_all (p->data, count, offset) == -1 || write_all (buf, count, offset) == -1) {
    free (p);
    return -1;
  }
  if (newest)
    newest->newer = p;
  else
    oldest = p;
  newest = p;
  pending_count++;
  pending_bytes += count;
  while (pending_bytes > PENDING_BYTES_MAX)
    forget_oldest ();
  return 0;
}

static int
powercut_pwrite (void *handle, const void *buf, uint32_t count, uint64_t offset, uint32_t flags)
{
  int result = -1;
  pthread_mutex_lock (&lock);
  if (!dead)
    result = remember_and_write (buf, count, offset, flags & NBDKIT_FLAG_FUA);
  pthread_mutex_unlock (&lock);
  if (result == -1)
    nbdkit_set_error (EIO);
  return result;
}

static int
powercut_flush (void *handle, uint32_t flags)
{
  int result = -1;
  pthread_mutex_lock (&lock);
  if (!dead) {
    forget_all ();
    result = 0;
  }
  pthread_mutex_unlock (&lock);
  if (result == -1)
    nbdkit_set_error (EIO);
  return result;
}

#define THREAD_MODEL NBDKIT_THREAD_MODEL_PARALLEL

static struct nbdkit_plugin plugin = {
  .name = "powercut",
  .longname = "a block device that loses power",
  .config = powercut_config,
  .config_complete = powercut_config_complete,
  .config_help = "image=FILE    the device's content\ncontrol=FILE  Unix socket for 'cut SEED' and 'count'",
  .after_fork = powercut_after_fork,
  .open = powercut_open,
  .get_size = powercut_get_size,
  .can_fua = powercut_can_fua,
  .can_multi_conn = powercut_can_multi_conn,
  .pread = powercut_pread,
  .pwrite = powercut_pwrite,
  .flush = powercut_flush,
};

NBDKIT_REGISTER_PLUGIN (plugin)
