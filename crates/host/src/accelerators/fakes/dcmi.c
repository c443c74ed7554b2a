/* A stand-in for libdcmi.so: it answers from the file `state` beside itself, which is read anew for every list of cards.
 *
 *   init CODE | list CODE | driver VERSION
 *   chip CARD CHIP TYPE NAME LOGIC PHY BUS HBM_MB HBM_USED_MB DDR_MB DDR_USED_MB UTIL POWER TEMP HEALTH ANSWER
 *                                              (TYPE: 0 an NPU, 1 the controller; ANSWER: code of every call, 0 = well)
 *   proc CARD CHIP PID MB | code CARD CHIP HEX | link CARD CARD KIND
 *
 * With -DOLD it is a driver that lacks what newer ones have. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

struct chip { int card, chip, type, phy, logic, bus, power, temp, answer; unsigned util, health; unsigned long long hbm, hbm_used, ddr, ddr_used; char name[32]; };
static struct chip chips[64];
static int chip_count, init_code, list_code, processes[64][4], process_count, codes[64][3], code_count, links[64][3], link_count;
static char driver[64];

static void load(void) {
  Dl_info info;
  char path[4096], line[512];
  dladdr((void *)load, &info);
  snprintf(path, sizeof path, "%s", info.dli_fname);
  strcpy(strrchr(path, '/'), "/state");
  chip_count = init_code = list_code = process_count = code_count = link_count = 0;
  FILE *file = fopen(path, "r");
  if (!file) return;
  while (fgets(line, sizeof line, file)) {
    struct chip c; int *n;
    memset(&c, 0, sizeof c);
    sscanf(line, "init %d", &init_code);
    sscanf(line, "list %d", &list_code);
    sscanf(line, "driver %63s", driver);
    if (sscanf(line, "chip %d %d %d %31s %d %d %d %llu %llu %llu %llu %u %d %d %u %d", &c.card, &c.chip, &c.type, c.name, &c.logic, &c.phy, &c.bus, &c.hbm, &c.hbm_used, &c.ddr, &c.ddr_used, &c.util, &c.power, &c.temp, &c.health, &c.answer) == 16) chips[chip_count++] = c;
    n = processes[process_count]; if (sscanf(line, "proc %d %d %d %d", &n[0], &n[1], &n[2], &n[3]) == 4) process_count++;
    n = codes[code_count]; if (sscanf(line, "code %d %d %x", &n[0], &n[1], (unsigned *)&n[2]) == 3) code_count++;
    n = links[link_count]; if (sscanf(line, "link %d %d %d", &n[0], &n[1], &n[2]) == 3) link_count++;
  }
  fclose(file);
}

static struct chip *find(int card, int chip) {
  for (int i = 0; i < chip_count; i++) if (chips[i].card == card && chips[i].chip == chip) return &chips[i];
  return 0;
}
#define CHIP struct chip *c = find(card, chip); if (!c) return -8007; if (c->answer) return c->answer

int dcmi_init(void) { load(); return init_code; }
int dcmi_get_driver_version(char *out, unsigned size) { snprintf(out, size, "%s", driver); return 0; }
int dcmi_get_card_list(int *count, int *list, int length) {
  load();
  if (list_code) return list_code;
  *count = 0;
  for (int i = 0; i < chip_count && *count < length; i++) {
    int known = 0;
    for (int j = 0; j < *count; j++) known |= list[j] == chips[i].card;
    if (!known) list[(*count)++] = chips[i].card;
  }
  return 0;
}
int dcmi_get_device_num_in_card(int card, int *count) {
  *count = 0;
  for (int i = 0; i < chip_count; i++) *count += chips[i].card == card;
  return 0;
}
int dcmi_get_device_type(int card, int chip, int *out) { struct chip *c = find(card, chip); if (!c) return -8007; *out = c->type; return 0; }
int dcmi_get_device_logic_id(int *out, int card, int chip) { struct chip *c = find(card, chip); if (!c) return -8007; *out = c->logic; return 0; }
int dcmi_get_device_phyid_from_logicid(unsigned logic, unsigned *out) {
  for (int i = 0; i < chip_count; i++) if (chips[i].logic == (int)logic && chips[i].phy >= 0) { *out = chips[i].phy; return 0; }
  return -8007;
}
int dcmi_get_device_health(int card, int chip, unsigned *out) { CHIP; *out = c->health; return 0; }
int dcmi_get_device_utilization_rate(int card, int chip, int kind, unsigned *out) { CHIP; if (kind != 2) return -8001; *out = c->util; return 0; }
int dcmi_get_device_power_info(int card, int chip, int *out) { CHIP; if (c->power < 0) return -8255; *out = c->power; return 0; }
int dcmi_get_device_temperature(int card, int chip, int *out) { CHIP; *out = c->temp; return 0; }
int dcmi_get_device_hbm_info(int card, int chip, void *out) {
  CHIP;
  if (!c->hbm) return -8255;
  struct { unsigned long long size; unsigned freq; unsigned long long used; int temp; unsigned rate; } hbm = {c->hbm, 1000, c->hbm_used, c->temp, 0};
  memcpy(out, &hbm, sizeof hbm);
  return 0;
}
int dcmi_get_device_memory_info_v3(int card, int chip, void *out) {
  CHIP;
  struct { unsigned long long size, available; unsigned freq; unsigned long page, pages, free; unsigned util; unsigned char reserve[60]; } memory;
  memset(&memory, 0, sizeof memory);
  memory.size = c->ddr; memory.available = c->ddr - c->ddr_used;
  memcpy(out, &memory, sizeof memory);
  return 0;
}
int dcmi_get_device_resource_info(int card, int chip, void *out, int *count) {
  struct { int pid; unsigned long bytes; } *list = out;
  CHIP;
  *count = 0;
  for (int i = 0; i < process_count; i++)
    if (processes[i][0] == card && processes[i][1] == chip) { list[*count].pid = processes[i][2]; list[(*count)++].bytes = (unsigned long)processes[i][3] << 20; }
  return 0;
}
#ifdef OLD
int dcmi_get_device_chip_info(int card, int chip, void *out) { CHIP; strcpy((char *)out + 32, c->name); return 0; }
#else
int dcmi_get_device_chip_info_v2(int card, int chip, void *out) { CHIP; strcpy((char *)out + 32, c->name); return 0; }
int dcmi_get_device_die_v2(int card, int chip, int type, unsigned *out) {
  CHIP;
  if (type != 1) return -8001;
  for (int i = 0; i < 5; i++) out[i] = 0x41A90000u + card * 256 + chip * 16 + i;
  return 0;
}
int dcmi_get_device_pcie_info_v2(int card, int chip, void *out) { CHIP; unsigned *words = out; words[4] = 0; words[5] = c->bus; words[6] = 0; words[7] = 0; return 0; }
int dcmi_get_device_errorcode_v2(int card, int chip, int *count, unsigned *list, unsigned length) {
  CHIP;
  *count = 0;
  for (int i = 0; i < code_count; i++) if (codes[i][0] == card && codes[i][1] == chip && *count < (int)length) list[(*count)++] = codes[i][2];
  return 0;
}
int dcmi_get_topo_info_by_device_id(int a, int a_chip, int b, int b_chip, int *out) {
  (void)a_chip; (void)b_chip;
  for (int i = 0; i < link_count; i++) if ((links[i][0] == a && links[i][1] == b) || (links[i][0] == b && links[i][1] == a)) { *out = links[i][2]; return 0; }
  return -8255;
}
#endif
