/* SPDX-License-Identifier: GPL-2.0-or-later */
/* hvpatchd, the core: patches the kernels of this host's VMs for whoever may ask for it. */

int main(void)
{
	return 1;
}
