"""What words in the keys of metrics and statistics say: what is counted, what is no person's."""

import re
from collections.abc import Iterable


def _set(text: str) -> frozenset[str]:
    return frozenset(text.split())


COUNT = _set("n num number nr cnt count total tally support")
PERSONS = _set(
    "case patient subject participant person people sample observation woman women man men "
    "child children adult individual volunteer proband"
)
COLLECTIONS = _set("cohort group sample population dataset data")
IRREGULAR = _set("people women men children studies biopsies diagnoses")
# What a person may have several of: counts of these are compared with their own kind only.
UNITS = _set(
    "scan image study studies exam examination lesion nodule slide series eye visit admission "
    "episode stay biopsy biopsies annotation"
)
# A person's attributes, and what became of persons: a whole number under such a word is a count.
GROUPS = _set(
    "malignant benign positive negative female male relapse relapsed relapses recurrence "
    "recurred died dead death deceased alive survived survivor healthy control cancer cancerous "
    "tumor tumour normal abnormal diseased smoker smokers black white asian hispanic latino "
    "missing excluded failed dropped withdrawn lost metastasis metastases metastatic responder "
    "responders progressed censored event treated untreated pregnant infected diabetic "
    "diabetics transplanted tp fp tn fn"
)
ATTRIBUTES = _set(
    "sex gender race ethnicity age group site scanner vendor manufacturer grade stage ward "
    "hospital center centre department outcome diagnosis diagnoses subtype histology modality "
    "country insurance comorbidity comorbidities mutation genotype treatment response"
)
TABLES = _set("count histogram distribution frequency frequencies tally confusion")
# Tables of these hold counts, or the number by which each class is called.
CLASSES = _set("label class category categories type organ")
SPREAD = _set(
    "mean avg average sd std stddev stdev var variance median q1 q2 q3 iqr percentile quantile "
    "min max minimum maximum range se sem skew kurtosis sum"
)
# How an experiment was set up.
SETTINGS = _set(
    "epoch class worker bin threshold bootstrap resample layer fold seed channel param "
    "parameter hyperparameter estimator iteration iter step job gpu dim dimension feature point "
    "quantile model metric neighbor neighbour repeat permutation head block split level scale "
    "batch token component core thread version kernel patch depth width height stride index idx "
    "id uid lr learning device crop window clip hu intensity input norm normalization padding "
    "pixel voxel tolerance dropout optimizer magnification freedom ensemble run round config "
    "pred ref label monte mc leaf det dets length limit tau rng mapping encoding lookup indices "
    "cluster rater reader annotator trial sequence view augmentation node cpu shard phase "
    "predictor covariate variable column field tree digit"
)
# Of all cases together, so that no case's own value is in it.
JOINT = _set(
    "auc auroc auprc roc accuracy acc f1 precision recall sensitivity specificity loss kappa "
    "map ap ar mcc ppv npv cindex concordance brier ece mce calibration gap difference youden "
    "likelihood parity odds fold seed score ratio r2 icc pq hr or rr"
)
# Measured case by case; also what no count is named by.
MEASURES = _set(
    "dice dsc iou jaccard hausdorff hd hd95 distance assd asd nsd mae mse rmse mape error p "
    "pvalue ci lower upper low high time seconds ms minutes hours days months years year mm ml "
    "cm volume rate percent share fraction proportion prevalence coef statistic loa bias fps "
    "froc"
)
NOT_COUNTED = SETTINGS | JOINT | MEASURES | SPREAD
SHARES = _set("share prevalence proportion fraction percent percentage pct")
# Shares of images and of data, or measures of a model, that are no shares of cases.
OTHER_SHARES = _set(
    "train training val validation test sampling sample crop foreground dice iou dsc jaccard "
    "error overlap coverage variance"
)
PERCENT = _set("percent percentage pct")
EXTREMES = _set("min max minimum maximum range oldest youngest longest shortest largest smallest")
# One value for each case, whatever it is called.
OF_EACH_CASE = _set(
    "predictions probabilities logits residuals outliers targets y_true y_pred y_score y_scores "
    "y_prob y_proba y_test per_case cases_list raw_scores raw_values event_times durations "
    "survival_times times_to_event ages"
)
FREE_TEXT = _set(
    "note comment remark description finding impression history reason anamnesis message "
    "narrative text"
)
NAMING = _set("id uid identifier hash pseudonym")
NAMING_PERSONS = _set("name code initials")
IDENTIFYING = _set(
    "mrn ssn accession pseudonym initials email phone telephone address zip postcode surname "
    "firstname lastname"
)
OF_PERSONS = _set(
    "birth born dob birthday admission admitted discharge discharged death died deceased "
    "diagnosis diagnosed surgery operation visit scan acquisition acquired exam examination "
    "study series treatment followup biopsy"
)
OF_RUNS = _set(
    "evaluated created computed started ended finished run timestamp generated version released "
    "release build updated written commit trained exported published evaluation submission "
    "submitted"
)
_FOR = _set("per by at within after over in with")
# Rows that sum up the others.
WHOLE = _set("avg average total all overall macro micro weighted sum together")


def words(key: str) -> list[str]:
    """The words of a key in lower case, with digits at the end of letters as their own.

    >>> words("numCases_2"), words("n_at-risk"), words("StudyInstanceUID"), words("hd95")
    (['num', 'cases', '2'], ['n', 'at', 'risk'], ['study', 'instance', 'uid'], ['hd95'])
    """
    apart = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", key)
    return [word.lower() for word in re.split(r"[\W_]+", apart) if word]


def has(found: Iterable[str], known: frozenset[str]) -> bool:
    """Whether one of the words, or what it is the plural of, is known."""
    return any(
        one in known
        for word in found
        for one in (word, word.removesuffix("s"), word.removesuffix("es"))
    )


def is_plural(word: str) -> bool:
    """Whether a noun is in the plural: `case: 3` names one, `cases: 3` counts them."""
    return word.endswith("s") or word in IRREGULAR


def head(found: list[str]) -> list[str]:
    """Of words such as `patients per site` what is told, without what it is told for."""
    places = [place for place, word in enumerate(found) if place and word in _FOR]
    return found[: places[0]] if places else found
