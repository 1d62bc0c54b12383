/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What is read of libvirt's XML, and what is not to be believed of it. */
#include "doctor/domain-xml.h"

#define DOMAIN(content) "<domain type='qemu' id='1'>" content "</domain>"
#define CHANNEL(attributes)                                                              \
	DOMAIN("<devices><channel type='unix'><source mode='bind' path='/run/x'/>"       \
	       "<target type='virtio' name='org.hvpatch.agent.0'" attributes "/>"        \
	       "</channel><channel type='spicevmc'><target type='virtio' name='other'/>" \
	       "</channel></devices>")

static void parse(const char *xml, HvpFactsVm *facts)
{
	g_autoptr(GError) error = NULL;

	if (!hvp_domain_xml_parse(xml, facts, &error))
		g_error("%s: %s", error->message, xml);
}

static void test_plain(void)
{
	g_auto(HvpFactsVm) facts = { 0 };

	parse(DOMAIN("<name>a</name><os><type arch='x86_64' machine='pc'>hvm</type></os>"
		     "<devices/>"),
	      &facts);
	g_assert_cmpint(facts.accelerator, ==, HVP_FACTS_ACCELERATOR_TCG);
	g_assert_cmpstr(facts.architecture, ==, "x86_64");
	g_assert_cmpint(facts.memory_is_shared, ==, HVP_FACTS_NO);
	g_assert_cmpint(facts.agent, ==, HVP_FACTS_AGENT_ABSENT);
	g_assert_false(facts.has_serial_controller);
	g_assert_null(facts.encryption);
	g_assert_null(facts.debugger);
	g_assert_cmpint(facts.nested, ==, HVP_FACTS_UNKNOWN);
}

static void test_accelerator(void)
{
	g_auto(HvpFactsVm) kvm = { 0 };
	g_auto(HvpFactsVm) other = { 0 };

	parse("<domain type='kvm'/>", &kvm);
	g_assert_cmpint(kvm.accelerator, ==, HVP_FACTS_ACCELERATOR_KVM);
	parse("<domain type='hvf'/>", &other);
	g_assert_cmpint(other.accelerator, ==, HVP_FACTS_ACCELERATOR_OTHER);
}

static void check_memory(const char *xml, HvpFactsAnswer is_shared, const char *source)
{
	g_auto(HvpFactsVm) facts = { 0 };

	parse(xml, &facts);
	g_assert_cmpint(facts.memory_is_shared, ==, is_shared);
	g_assert_cmpstr(facts.memory_source, ==, source);
}

static void test_memory(void)
{
	check_memory(DOMAIN("<memoryBacking><source type='memfd'/><access mode='shared'/>"
			    "</memoryBacking>"),
		     HVP_FACTS_YES, "memfd");
	check_memory(DOMAIN("<memoryBacking><source type='memfd'/></memoryBacking>"), HVP_FACTS_NO,
		     "memfd");
	check_memory(DOMAIN("<memoryBacking><hugepages><page size='2048' unit='KiB'/></hugepages>"
			    "<access mode='shared'/></memoryBacking>"),
		     HVP_FACTS_YES, "hugepages");
	check_memory(DOMAIN("<memoryBacking><access mode='private'/></memoryBacking>"),
		     HVP_FACTS_NO, NULL);
	check_memory(DOMAIN("<cpu><numa><cell id='0' cpus='0' memory='1' memAccess='shared'/>"
			    "</numa></cpu>"),
		     HVP_FACTS_YES, NULL);
	/* Metadata says nothing of the domain. */
	check_memory(DOMAIN("<metadata><memoryBacking><access mode='shared'/></memoryBacking>"
			    "</metadata>"),
		     HVP_FACTS_NO, NULL);
}

static void test_agent(void)
{
	static const struct {
		const char *xml;
		HvpFactsAgent expected;
	} channels[] = {
		{ CHANNEL(" state='connected'"), HVP_FACTS_AGENT_OPEN },
		{ CHANNEL(" state='disconnected'"), HVP_FACTS_AGENT_CLOSED },
		{ CHANNEL(""), HVP_FACTS_AGENT_CLOSED },
		{ DOMAIN("<devices><channel><target name='org.qemu.guest_agent.0' "
			 "state='connected'/></channel></devices>"),
		  HVP_FACTS_AGENT_ABSENT },
	};

	for (gsize i = 0; i < G_N_ELEMENTS(channels); i++) {
		g_auto(HvpFactsVm) facts = { 0 };

		parse(channels[i].xml, &facts);
		g_assert_cmpint(facts.agent, ==, channels[i].expected);
	}
}

static void test_rest(void)
{
	g_auto(HvpFactsVm) facts = { 0 };

	parse(DOMAIN("<launchSecurity type='sev-snp'><policy>0x30000</policy></launchSecurity>"
		     "<devices><controller type='virtio-serial' index='0'/></devices>"
		     "<qemu:commandline xmlns:qemu='urn:x'><qemu:arg value='-gdb'/>"
		     "<qemu:arg value='tcp::1234'/></qemu:commandline>"),
	      &facts);
	g_assert_cmpstr(facts.encryption, ==, "sev-snp");
	g_assert_true(facts.has_serial_controller);
	g_assert_cmpstr(facts.debugger, ==, "tcp::1234");
}

static void check_cpu(const char *xml, HvpFactsAnswer nested, bool is_hosts, const char *cpu)
{
	g_auto(HvpFactsVm) facts = { 0 };

	parse(xml, &facts);
	g_assert_cmpint(facts.nested, ==, nested);
	g_assert_cmpint(facts.cpu_is_hosts, ==, is_hosts);
	g_assert_cmpstr(facts.cpu, ==, cpu);
}

static void test_cpu(void)
{
	check_cpu(DOMAIN("<cpu mode='host-passthrough' check='none'/>"), HVP_FACTS_UNKNOWN, true,
		  "host-passthrough");
	check_cpu(DOMAIN("<cpu mode='custom'><model fallback='forbid'>EPYC</model>"
			 "<feature policy='require' name='svm'/></cpu>"),
		  HVP_FACTS_YES, false, "EPYC");
	check_cpu(DOMAIN("<cpu mode='host-passthrough'><feature policy='disable' name='vmx'/>"
			 "</cpu>"),
		  HVP_FACTS_NO, true, "host-passthrough");
	check_cpu(DOMAIN("<cpu mode='custom'><feature policy='disable' name='svm'/>"
			 "<feature policy='require' name='vmx'/>"
			 "<feature policy='disable' name='svm'/></cpu>"),
		  HVP_FACTS_YES, false, "custom");
}

static void check_bad(const char *xml)
{
	g_auto(HvpFactsVm) facts = { 0 };
	g_autoptr(GError) error = NULL;

	g_assert_false(hvp_domain_xml_parse(xml, &facts, &error));
	g_assert_error(error, HVP_ERROR, HVP_ERROR_BAD_DATA);
}

static void test_bad(void)
{
	g_autoptr(GString) deep = g_string_new("<domain type='kvm'>");

	for (guint i = 0; i < 10000; i++)
		g_string_append(deep, "<a>");
	check_bad(deep->str);
	check_bad("");
	check_bad("<domain type='kvm'>");
	check_bad("<domain type='kvm'></devices>");
	check_bad("<network/>");
	check_bad("<domain type='kvm'><name>&lol;</name></domain>");
	check_bad("<domain type='kvm'><name>\xff</name></domain>");
}

/* A document type with entities is passed over, not expanded. */
static void test_bomb(void)
{
	check_bad("<!DOCTYPE d [<!ENTITY a 'aaaa'><!ENTITY b '&a;&a;&a;'>]>"
		  "<domain type='kvm'><name>&b;</name></domain>");
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/domain-xml/plain-READ", test_plain);
	g_test_add_func("/domain-xml/kvm-and-others-READ", test_accelerator);
	g_test_add_func("/domain-xml/memory-READ", test_memory);
	g_test_add_func("/domain-xml/agent-READ", test_agent);
	g_test_add_func("/domain-xml/security-gdb-controller-READ", test_rest);
	g_test_add_func("/domain-xml/cpu-READ", test_cpu);
	g_test_add_func("/domain-xml/broken-or-deep-BAD_DATA", test_bad);
	g_test_add_func("/domain-xml/entities-BAD_DATA", test_bomb);
	return g_test_run();
}
