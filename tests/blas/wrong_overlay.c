/* SPDX-License-Identifier: Apache-2.0 */
/* An overlay that does nothing: neither products nor errors. Testers that accept it test nothing. */
#define NOTHING(name)                                                                              \
    void name(void);                                                                               \
    void name(void) {}

NOTHING(sgemm_)
NOTHING(dgemm_)
NOTHING(sgemv_)
NOTHING(dgemv_)
NOTHING(cblas_sgemm)
NOTHING(cblas_dgemm)
NOTHING(cblas_sgemv)
NOTHING(cblas_dgemv)
NOTHING(scipy_cblas_sgemm64_)
NOTHING(scipy_cblas_dgemm64_)
NOTHING(scipy_cblas_sgemv64_)
NOTHING(scipy_cblas_dgemv64_)
