# What R's survey says of the same respondents: data.csv, margins.csv and figures.csv in, results.csv and
# weights.csv out, all in the folder given. See test_against_r.py.
suppressPackageStartupMessages(library(survey))
options(survey.lonely.psu = "adjust")  # the centre rule
# The variance of a contrast of totals is a difference: below this its root is rounding, and the true se is 0.
dust <- 1e-7
folder <- commandArgs(trailingOnly = TRUE)[1]
rd <- function(name) read.csv(file.path(folder, name), na.strings = "", stringsAsFactors = FALSE,
                              colClasses = NA)
d <- rd("data.csv")
m <- rd("margins.csv")
f <- rd("figures.csv")

design <- svydesign(ids = ~1, strata = ~stratum, weights = ~base, data = d)
tables <- unique(m$table)
if (length(tables) > 0) {
  # A missing demographic is a category of its own at its base-weighted share; the others share the rest.
  population <- c()
  terms <- c()
  for (k in seq_along(tables)) {
    t <- m[m$table == tables[k], ]
    vars <- strsplit(t$variables[1], "*", fixed = TRUE)[[1]]
    value <- do.call(paste, c(d[vars], sep = "*"))
    lacking <- !complete.cases(d[vars])
    value[lacking] <- "(missing)"
    share <- sum(d$base[lacking]) / sum(d$base)
    totals <- setNames(t$total * (1 - share), t$category)
    if (any(lacking)) totals <- c(totals, "(missing)" = sum(t$total) * share)
    totals <- totals[totals > 0]
    name <- paste0("margin", k)
    d[[name]] <- factor(value, levels = names(totals))
    terms <- c(terms, name)
    # The model matrix drops each factor's first level; the intercept stands for the total.
    part <- totals[-1]
    names(part) <- paste0(name, names(part))
    if (k == 1) population <- c("(Intercept)" = sum(totals))
    population <- c(population, part)
  }
  design <- svydesign(ids = ~1, strata = ~stratum, weights = ~base, data = d)
  design <- calibrate(design, reformulate(terms), population, calfun = "raking", epsilon = 1e-13,
                      maxit = 5000)
}
write.csv(data.frame(respondent = d$respondent, weight = sprintf("%.17g", weights(design))),
          file.path(folder, "weights.csv"), row.names = FALSE)

attributes_of <- function(service) grep(paste0("^y_", service, "_"), names(d), value = TRUE)
kg <- function(p, se, n, df) {
  known <- p > 0 && p < 1 && se > dust
  size <- if (known) min(n, p * (1 - p) / se^2 * (qt(.975, n - 1) / qt(.975, df))^2) else n
  c(if (p == 0) 0 else qbeta(.025, size * p, size * (1 - p) + 1),
    if (p == 1) 1 else qbeta(.975, size * p + 1, size * (1 - p)))
}

out <- NULL
domains <- unique(f$domain)
for (domain in domains) {
  inside <- rep(TRUE, nrow(d))
  if (!is.na(domain)) for (pair in strsplit(domain, ";")[[1]]) {
    kv <- strsplit(pair, "=")[[1]]
    inside <- inside & !is.na(d[[kv[1]]]) & d[[kv[1]]] == kv[2]
  }
  mine <- f[if (is.na(domain)) is.na(f$domain) else (!is.na(f$domain) & f$domain == domain), ]
  for (r in seq_len(nrow(mine))) {
    service <- mine$service[r]
    columns <- if (mine$measure[r] == "attributes") attributes_of(service) else mine$measure[r]
    
    valid <- sapply(columns, function(c) inside & !is.na(d[[c]]))
    some <- rowSums(valid) > 0
    n <- sum(some)
    ones <- sapply(columns, function(c) sum(d[[c]][inside], na.rm = TRUE))
    bases <- colSums(valid)
    p <- se <- low <- high <- width <- NA
    df <- if (n > 0) n - length(unique(d$stratum[some])) else 0
    if (all(bases > 0)) {
      if (all(ones == 0)) { p <- 0; se <- 0 } else if (all(ones == bases)) { p <- 1; se <- 0 }
      else if (length(columns) == 1) {
        # A calibrated subset keeps all its rows: what lies outside must be a number, whatever it is.
        filled <- design
        filled$variables[[columns]][!some] <- 0
        sub <- subset(filled, some)
        estimate <- svymean(reformulate(columns), sub)
        p <- as.numeric(coef(estimate)); se <- as.numeric(SE(estimate))
        stopifnot(df == degf(sub))
      } else {
        sub <- update(design, .in = inside)
        for (k in seq_along(columns)) {
          y <- sub$variables[[columns[k]]]
          sub$variables[[paste0(".d", k)]] <- as.numeric(inside & !is.na(y))
          sub$variables[[paste0(".n", k)]] <- ifelse(inside & !is.na(y), y, 0)
        }
        k <- seq_along(columns)
        totals <- svytotal(reformulate(c(paste0(".n", k), paste0(".d", k))), sub)
        mean_of <- parse(text = paste0("(", paste0(".n", k, "/.d", k, collapse = "+"), ")/", length(k)))[[1]]
        estimate <- eval(bquote(svycontrast(totals, quote(.(mean_of)))))
        p <- as.numeric(coef(estimate))
        se <- sqrt(max(as.numeric(vcov(estimate)), 0))  # a difference of rounding may fall below 0
      }
      if (df > 0) {
        limits <- kg(p, se, n, df)
        width <- limits[2] - limits[1]
        if (p > 0 && p < 1 && se > dust) {
          if (length(columns) == 1) {
            limits <- confint(svyciprop(reformulate(columns), sub, method = "xlogit", df = df))
          } else {
            half <- qt(.975, df) * se / (p * (1 - p))
            limits <- plogis(qlogis(p) + c(-half, half))
          }
        }
        low <- limits[1]; high <- limits[2]
      }
    }
    out <- rbind(out, data.frame(id = mine$id[r], n = n, df = df, p = sprintf("%.17g", p),
                                 se = sprintf("%.17g", se), low = sprintf("%.17g", low),
                                 high = sprintf("%.17g", high), width = sprintf("%.17g", width)))
  }
}
write.csv(out, file.path(folder, "results.csv"), row.names = FALSE)
