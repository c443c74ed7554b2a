/* A stand-in for libnvidia-ml.so.1: it answers from the file `state` beside itself, which is read anew for every count.
 *
 *   init CODE | driver VERSION | sleep SECONDS
 *   gpu UUID NAME TOTAL_MIB USED_MIB UTIL TEMP POWER_MW MINOR BUS COMPUTE_MODE MIG ANSWER    (ANSWER: code of every call, 0 = well)
 *   slice GPU_INDEX UUID NAME TOTAL_MIB USED_MIB GI CI
 *   proc GPU_INDEX PID MIB GI CI KIND          (KIND: compute, mps, graphics)
 *   nvlink GPU_INDEX REMOTE_BUS                (one line a link)
 *   level GPU_INDEX GPU_INDEX LEVEL
 *   xid GPU_INDEX NUMBER                       (told once)
 *
 * With -DOLD it is a driver that lacks what newer ones have. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct device { int slice_of; char uuid[80], name[96]; unsigned long long total, used; unsigned util, temp, power, minor, bus, mode, mig, gi, ci; int answer; };
struct process { int device; unsigned pid, gi, ci; unsigned long long mib; char kind[16]; };
static struct device devices[64];
static struct process processes[64];
static int device_count, gpu_count, process_count, init_code, links[64][2], link_count, levels[64][3], level_count, xids[16][2], xid_count;
#ifndef OLD
static int told;
#endif
static char driver[64];

static void spaces(char *text) { for (; *text; text++) if (*text == '_') *text = ' '; }

static void load(void) {
  Dl_info info;
  char path[4096], line[512];
  dladdr((void *)load, &info);
  snprintf(path, sizeof path, "%s", info.dli_fname);
  strcpy(strrchr(path, '/'), "/state");
  device_count = gpu_count = process_count = init_code = link_count = level_count = xid_count = 0;
  strcpy(driver, "0");
  FILE *file = fopen(path, "r");
  if (!file) return;
  while (fgets(line, sizeof line, file)) {
    struct device d; struct process p; int seconds, *l;
    memset(&d, 0, sizeof d); memset(&p, 0, sizeof p);
    if (sscanf(line, "sleep %d", &seconds) == 1) sleep(seconds);
    sscanf(line, "init %d", &init_code);
    sscanf(line, "driver %63s", driver);
    if (sscanf(line, "gpu %79s %95s %llu %llu %u %u %u %u %u %u %u %d", d.uuid, d.name, &d.total, &d.used, &d.util, &d.temp, &d.power, &d.minor, &d.bus, &d.mode, &d.mig, &d.answer) == 12) {
      d.slice_of = -1; spaces(d.name); devices[device_count++] = d; gpu_count++;
    }
    if (sscanf(line, "slice %d %79s %95s %llu %llu %u %u", &d.slice_of, d.uuid, d.name, &d.total, &d.used, &d.gi, &d.ci) == 7) { spaces(d.name); devices[device_count++] = d; }
    if (sscanf(line, "proc %d %u %llu %u %u %15s", &p.device, &p.pid, &p.mib, &p.gi, &p.ci, p.kind) == 6) processes[process_count++] = p;
    l = links[link_count]; if (sscanf(line, "nvlink %d %d", &l[0], &l[1]) == 2) link_count++;
    l = levels[level_count]; if (sscanf(line, "level %d %d %d", &l[0], &l[1], &l[2]) == 3) level_count++;
    l = xids[xid_count]; if (sscanf(line, "xid %d %d", &l[0], &l[1]) == 2) xid_count++;
  }
  fclose(file);
}

#define DEVICE struct device *d = handle; if (d->answer) return d->answer
static int at(void *handle) { return (int)((struct device *)handle - devices); }
static void bus(void *out, unsigned number) { unsigned *words = (unsigned *)((char *)out + 16); words[0] = 0; words[1] = number; words[2] = 0; }

int nvmlInit_v2(void) { load(); return init_code; }
int nvmlShutdown(void) { return 0; }
int nvmlSystemGetDriverVersion(char *out, unsigned size) { snprintf(out, size, "%s", driver); return 0; }
int nvmlDeviceGetCount_v2(unsigned *out) { load(); if (init_code) return init_code; *out = gpu_count; return 0; }
int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **out) {
  for (int i = 0, n = 0; i < device_count; i++) if (devices[i].slice_of < 0 && n++ == (int)index) { *out = &devices[i]; return 0; }
  return 6;
}
int nvmlDeviceGetName(void *handle, char *out, unsigned size) { DEVICE; snprintf(out, size, "%s", d->name); return 0; }
int nvmlDeviceGetUUID(void *handle, char *out, unsigned size) { struct device *d = handle; snprintf(out, size, "%s", d->uuid); return 0; }
int nvmlDeviceGetMinorNumber(void *handle, unsigned *out) { DEVICE; *out = d->minor; return 0; }
int nvmlDeviceGetPciInfo_v3(void *handle, void *out) { DEVICE; bus(out, d->bus); return 0; }
int nvmlDeviceGetUtilizationRates(void *handle, unsigned *out) { DEVICE; if (d->mig) return 3; out[0] = d->util; out[1] = 0; return 0; }
int nvmlDeviceGetTemperature(void *handle, unsigned sensor, unsigned *out) { DEVICE; if (sensor) return 2; *out = d->temp; return 0; }
int nvmlDeviceGetPowerUsage(void *handle, unsigned *out) { DEVICE; if (!d->power) return 3; *out = d->power; return 0; }

static int list(void *handle, unsigned *count, void *out, int step, const char *kind) {
  DEVICE;
  unsigned found = 0;
  for (int i = 0; i < process_count; i++) if (processes[i].device == at(handle) && !strcmp(processes[i].kind, kind)) found++;
  if (found > *count) { *count = found; return 7; }
  *count = 0;
  for (int i = 0; i < process_count; i++) {
    if (processes[i].device != at(handle) || strcmp(processes[i].kind, kind)) continue;
    char *entry = (char *)out + step * (*count)++;
    memcpy(entry, &processes[i].pid, 4);
    unsigned long long bytes = processes[i].mib ? processes[i].mib << 20 : ~0ULL;
    memcpy(entry + 8, &bytes, 8);
    if (step > 16) { memcpy(entry + 16, &processes[i].gi, 4); memcpy(entry + 20, &processes[i].ci, 4); }
  }
  return 0;
}

#ifdef OLD
int nvmlDeviceGetMemoryInfo(void *handle, unsigned long long *out) { DEVICE; out[0] = d->total << 20; out[2] = d->used << 20; out[1] = out[0] - out[2]; return 0; }
int nvmlDeviceGetComputeRunningProcesses(void *handle, unsigned *count, void *out) { return list(handle, count, out, 16, "compute"); }
#else
int nvmlDeviceGetMemoryInfo_v2(void *handle, void *out) {
  DEVICE;
  unsigned version; memcpy(&version, out, 4);
  if (version != 0x02000028) return 2;
  unsigned long long *words = (unsigned long long *)((char *)out + 8);
  words[0] = d->total << 20; words[1] = 300ULL << 20; words[2] = (d->total - d->used) << 20; words[3] = d->used << 20;
  return 0;
}
int nvmlDeviceGetComputeRunningProcesses_v3(void *handle, unsigned *count, void *out) { return list(handle, count, out, 24, "compute"); }
int nvmlDeviceGetMPSComputeRunningProcesses_v3(void *handle, unsigned *count, void *out) { return list(handle, count, out, 24, "mps"); }
int nvmlDeviceGetGraphicsRunningProcesses_v3(void *handle, unsigned *count, void *out) { return list(handle, count, out, 24, "graphics"); }
int nvmlDeviceGetComputeMode(void *handle, unsigned *out) { DEVICE; *out = d->mode; return 0; }
int nvmlDeviceGetMigMode(void *handle, unsigned *now, unsigned *pending) { DEVICE; *now = *pending = d->mig; return 0; }
int nvmlDeviceGetMaxMigDeviceCount(void *handle, unsigned *out) { (void)handle; *out = 7; return 0; }
int nvmlDeviceGetMigDeviceHandleByIndex(void *handle, unsigned index, void **out) {
  /* Every second place is empty, as after slices were removed. */
  if (index % 2) return 6;
  for (int i = 0, n = 0; i < device_count; i++) if (devices[i].slice_of == at(handle) && n++ == (int)index / 2) { *out = &devices[i]; return 0; }
  return 6;
}
int nvmlDeviceGetGpuInstanceId(void *handle, unsigned *out) { *out = ((struct device *)handle)->gi; return 0; }
int nvmlDeviceGetComputeInstanceId(void *handle, unsigned *out) { *out = ((struct device *)handle)->ci; return 0; }
int nvmlDeviceGetTopologyCommonAncestor(void *a, void *b, unsigned *out) {
  for (int i = 0; i < level_count; i++)
    if ((levels[i][0] == at(a) && levels[i][1] == at(b)) || (levels[i][0] == at(b) && levels[i][1] == at(a))) { *out = levels[i][2]; return 0; }
  return 3;
}
static int nth_link(void *handle, unsigned n) {
  for (int i = 0; i < link_count; i++) if (links[i][0] == at(handle) && n-- == 0) return links[i][1];
  return -1;
}
int nvmlDeviceGetNvLinkState(void *handle, unsigned link, unsigned *out) { *out = nth_link(handle, link) >= 0; return 0; }
int nvmlDeviceGetNvLinkRemotePciInfo_v2(void *handle, unsigned link, void *out) { bus(out, nth_link(handle, link)); return 0; }
int nvmlEventSetCreate(void **out) { *out = &told; return 0; }
int nvmlEventSetFree(void *set) { (void)set; return 0; }
int nvmlDeviceRegisterEvents(void *handle, unsigned long long kinds, void *set) { (void)set; DEVICE; return kinds == 8 ? 0 : 2; }
int nvmlEventSetWait_v2(void *set, void *out, unsigned timeout) {
  (void)set; (void)timeout;
  if (told >= xid_count) return 10;
  void *device = &devices[xids[told][0]];
  unsigned long long words[2] = {8, (unsigned long long)xids[told][1]};
  told++;
  memcpy(out, &device, 8); memcpy((char *)out + 8, words, 16);
  return 0;
}
#endif
